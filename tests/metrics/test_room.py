"""The room's surface: what it exports, and that it knows no tables."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from thalweg import metrics

FILES = sorted(path.stem for path in Path(metrics.__file__).parent.glob("_*.py") if path.stem != "__init__")


def test_all_is_sorted_and_resolves():
    assert metrics.__all__ == sorted(metrics.__all__)
    for name in metrics.__all__:
        assert getattr(metrics, name).__module__.startswith("thalweg.metrics._")
    with pytest.raises(AttributeError, match="no attribute 'sink_scores'"):
        _ = metrics.sink_scores


def test_the_reading_order_names_every_file():
    for file in FILES:
        assert f"``{file}``" in metrics.__doc__, file


@pytest.mark.parametrize("file", FILES)
def test_files_say_their_conventions(file):
    module = import_module(f"thalweg.metrics.{file}")
    assert "Conventions:" in module.__doc__


def test_every_public_function_shows_an_example():
    for name in metrics.__all__:
        value = getattr(metrics, name)
        assert value.__doc__, name
        assert isinstance(value, type) or "Example:" in value.__doc__, name


def test_formulas_know_no_tables():
    code = "import sys, thalweg.metrics; assert 'polars' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
