"""The room's surface: what it exports, and that tables are averaged without torch."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from thalweg import averages

FILES = sorted(path.stem for path in Path(averages.__file__).parent.glob("_*.py") if path.stem != "__init__")


def test_the_reading_order_names_every_file():
    for file in FILES:
        assert f"``{file}``" in averages.__doc__, file


@pytest.mark.parametrize("file", FILES)
def test_files_say_their_conventions(file):
    module = import_module(f"thalweg.averages.{file}")
    assert "Conventions:" in module.__doc__


def test_every_public_function_shows_an_example():
    for name in averages.__all__:
        value = getattr(averages, name)
        if not isinstance(value, list | tuple | float | str):
            assert value.__module__.startswith("thalweg.averages._")
            assert value.__doc__, name
            assert isinstance(value, type) or "Example:" in value.__doc__, name


def test_averaging_tables_needs_no_torch():
    code = "import sys, thalweg.averages; assert not {'torch', 'transformers', 'thalweg.metrics'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
