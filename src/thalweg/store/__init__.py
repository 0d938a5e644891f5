"""What does a run look like on disk, and how is it written and read?

A run is a directory: ``run.json`` says what was measured of, on and with, and each experiment, the survey among them,
has a folder of findings, ``<experiment>/<key>``: ``header.json``, tables in parts, and tables made from the parts.
Files are there whole or not at all and have checksums, so that a run that was killed at any moment can be read and goes
on where it stopped, and what was damaged is named and measured again.

In reading order: ``_columns`` what a table is · ``_facts``, ``_documents`` and ``_checksums`` what is written down ·
``_header`` and ``_run_file`` run.json · ``_identity`` when two runs are one · ``_findings_header`` and ``_dtypes``
header.json · ``_names`` safe file names · ``_files`` whole files · ``_shards`` what is finished · ``_findings`` and
``_reader`` reading · ``_conform``, ``_held``, ``_writer`` and ``_open`` writing · ``_features`` pooled
states of texts.
"""

from thalweg.store._checksums import FileFacts, facts_of, is_whole, require_whole
from thalweg.store._columns import Column, Table, Tables
from thalweg.store._features import Features, FeatureStore, text_hash
from thalweg.store._files import os_errors_as_run_errors, write_whole
from thalweg.store._findings import Findings
from thalweg.store._findings_header import Coverage, FindingsHeader, PartCounts, Session
from thalweg.store._header import DataFacts, ModelFacts, RunHeader, Thresholds
from thalweg.store._identity import RunIdentity
from thalweg.store._names import Shard, slug
from thalweg.store._open import open_findings
from thalweg.store._reader import Run, open_run
from thalweg.store._writer import FindingsWriter

__all__ = [
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
    "PartCounts",
    "Run",
    "RunHeader",
    "RunIdentity",
    "Session",
    "Shard",
    "Table",
    "Tables",
    "Thresholds",
    "facts_of",
    "is_whole",
    "open_findings",
    "open_run",
    "os_errors_as_run_errors",
    "require_whole",
    "slug",
    "text_hash",
    "write_whole",
]
