"""The room's surface: what it exports, and that tables are averaged without torch."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from thalweg import metrics

ROOM = Path(metrics.__file__).parent
FILES = sorted(path.stem for path in ROOM.glob("_*.py") if path.stem != "__init__")


def test_all_is_sorted_and_resolves():
    assert metrics.__all__ == sorted(metrics.__all__)
    assert dir(metrics) == metrics.__all__
    for name in metrics.__all__:
        assert getattr(metrics, name).__module__.startswith("thalweg.metrics._")
    with pytest.raises(AttributeError, match="no attribute 'sink_scores'"):
        _ = metrics.sink_scores


def test_what_type_checkers_see_is_what_is_exported():
    tree = ast.parse((ROOM / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(metrics.__all__)


def test_the_reading_order_names_every_file():
    for file in FILES:
        assert f"``{file}``" in metrics.__doc__, file
    assert set(metrics._FILES) <= set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_files_say_their_conventions(file):
    module = import_module(f"thalweg.metrics.{file}")
    assert "Conventions:" in module.__doc__


def test_every_public_function_shows_an_example():
    for name in metrics.__all__:
        value = getattr(metrics, name)
        assert value.__doc__, name
        assert isinstance(value, type) or "Example:" in value.__doc__, name


def test_averaging_tables_needs_no_torch():
    code = "import sys; from thalweg.metrics import coupling, phases, profile; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
