"""What holds for every room: its public names, and that it knows nothing of the place where it was written."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import thalweg

SOURCE = Path(thalweg.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
NAMES = [
    ".".join(("thalweg", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__") for path in MODULES
]
ROOMS = [name for path, name in zip(MODULES, NAMES, strict=True) if path.name == "__init__.py" and "._" not in name]
OF_THIS_WORKPLACE = ("/work/", "THALWEG_TEST_DATA", "farm")


def in_order(name):
    """Constants, types, the rest, as ruff sorts them too."""
    return (not name.isupper(), not name[0].isupper(), name)


def test_the_rooms_are_there():
    rooms = {name.removeprefix("thalweg.") for name in ROOMS} - {"thalweg"}
    assert rooms >= {
        "averages",
        "capture",
        "cli",
        "engines",
        "experiments",
        "metrics",
        "prompts",
        "reference",
        "report",
        "shown",
        "store",
        "streaming",
        "tables",
    }


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_sorted_and_there(room):
    module = import_module(room)
    assert module.__all__
    assert list(module.__all__) == sorted(set(module.__all__), key=in_order)
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("__main__")])
def test_files_export_only_what_is_there(name):
    module = import_module(name)
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), public


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "thalweg"])
def test_a_room_says_what_it_is_for_and_names_its_files(room):
    folder = SOURCE / room.rpartition(".")[2]
    said = import_module(room).__doc__
    assert said
    for path in folder.glob("_*.py"):
        if path.name not in ("__init__.py", "__main__.py"):
            assert path.stem in said, path.stem


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCE.rglob("*") if path.suffix in (".py", ".toml", ".html", ".j2", ".mplstyle", ".css", ".js")],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_no_file_knows_where_it_was_written(path):
    text = path.read_text(encoding="utf-8")
    assert [word for word in OF_THIS_WORKPLACE if word in text] == []


def imported(path):
    """What a file imports of thalweg, name by name: as ("metrics", "_spectrum", "entropy")."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: rooms are imported by their whole name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (tuple(name.split(".")[1:]) for name in names if name.startswith("thalweg."))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_private_name_is_imported_from_another_room(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    private = [
        ".".join(name) for name in imported(path) if name[0] != room and any(part.startswith("_") for part in name)
    ]
    assert [name for name in private if name != "__version__"] == []
