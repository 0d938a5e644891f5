"""What does a run look like on disk, and how is it written and read?

A run is a directory: ``run.json``, four tables in parts (``layers heads massive prompts``), and three aggregated
tables (``profile phases coupling``). Files are there whole or not at all, so a run that was killed at any moment can be
read, and goes on where it stopped.

In reading order: ``_columns`` what a column is · ``_schemas`` the columns · ``_header`` run.json ·
``_identity`` when two runs are one · ``_names``
safe file names · ``_files`` whole files · ``_headerfile`` run.json on disk · ``_parts`` what is finished · ``_writer``
and ``_create`` writing · ``_reader`` reading ·
``_experiment_schemas``, ``_experiment_header`` and ``_experiments`` what experiments add · ``_features`` pooled states
of texts.
"""

from thalweg.store._columns import Column, Table, Tables
from thalweg.store._create import create_or_resume
from thalweg.store._experiment_header import ExperimentHeader
from thalweg.store._experiment_schemas import EXPERIMENTS, ExperimentTables, experiment_schema
from thalweg.store._experiments import ExperimentWriter, Findings, open_experiment
from thalweg.store._features import Features, FeatureStore, text_hash
from thalweg.store._files import os_errors_as_run_errors, write_whole
from thalweg.store._header import Coverage, DataFacts, ModelFacts, PartCounts, RunHeader, Thresholds
from thalweg.store._identity import RunIdentity
from thalweg.store._names import Shard, slug
from thalweg.store._reader import Run, open_run
from thalweg.store._schemas import schema
from thalweg.store._writer import RunWriter

__all__ = [
    "EXPERIMENTS",
    "Column",
    "Coverage",
    "DataFacts",
    "ExperimentHeader",
    "ExperimentTables",
    "ExperimentWriter",
    "FeatureStore",
    "Features",
    "Findings",
    "ModelFacts",
    "PartCounts",
    "Run",
    "RunHeader",
    "RunIdentity",
    "RunWriter",
    "Shard",
    "Table",
    "Tables",
    "Thresholds",
    "create_or_resume",
    "experiment_schema",
    "open_experiment",
    "open_run",
    "os_errors_as_run_errors",
    "schema",
    "slug",
    "text_hash",
    "write_whole",
]
