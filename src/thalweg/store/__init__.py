"""What does a run look like on disk, and how is it written and read?

A run is a directory: ``run.json`` says what was measured of, on and with, and each experiment, the survey among them,
has a folder of findings, ``<experiment>/<key>``: ``header.json``, tables in parts, and tables made from the parts.
Files are there whole or not at all and have checksums, so that a run that was killed at any moment can be read and goes
on where it stopped, and what was damaged is named and measured again.

In reading order: ``_tables`` what a table is · ``_files`` whole files, checksums and JSON · ``_header`` run.json, and
when two runs are one · ``_findings_header`` header.json · ``_shards`` what is finished, and its files' names ·
``_own`` what is thalweg's own · ``_reader`` reading · ``_writer`` and ``_open`` writing · ``_features`` pooled states
of texts · ``_checked`` what is damaged.
"""

from thalweg.store._checked import damages
from thalweg.store._features import Features, FeatureStore, text_hash
from thalweg.store._files import FileFacts, facts_of, is_whole, os_errors_as_run_errors, require_whole, write_whole
from thalweg.store._findings_header import Coverage, FindingsHeader, PartCounts, Session
from thalweg.store._header import UNNAMED, DataFacts, ModelFacts, NoiseFloor, RunHeader, RunIdentity, Thresholds
from thalweg.store._open import open_findings
from thalweg.store._reader import AGGREGATES, Findings, Run, is_run, open_run
from thalweg.store._shards import Shard, readable, slug
from thalweg.store._tables import Column, Table, Tables
from thalweg.store._writer import FindingsWriter

__all__ = [
    "AGGREGATES",
    "UNNAMED",
    "Column",
    "Coverage",
    "DataFacts",
    "FeatureStore",
    "Features",
    "FileFacts",
    "Findings",
    "FindingsHeader",
    "FindingsWriter",
    "ModelFacts",
    "NoiseFloor",
    "PartCounts",
    "Run",
    "RunHeader",
    "RunIdentity",
    "Session",
    "Shard",
    "Table",
    "Tables",
    "Thresholds",
    "damages",
    "facts_of",
    "is_run",
    "is_whole",
    "open_findings",
    "open_run",
    "os_errors_as_run_errors",
    "readable",
    "require_whole",
    "slug",
    "text_hash",
    "write_whole",
]
