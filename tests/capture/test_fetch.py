"""Weights are brought near without keeping anything of them: downloaded, read once, stopped when nobody waits."""

from pathlib import Path

import pytest

from saved import llama, save
from thalweg.capture import _fetch, fetch_weights, identify_model, load_model
from thalweg.experiments._checkpoints.measure import Fetching


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """In four shards or so."""
    path = save(llama(), tmp_path_factory.mktemp("models") / "tiny", max_shard_size="20KB")
    return identify_model(path)


@pytest.fixture
def read(monkeypatch):
    """The bytes read of each file."""
    found, own = {}, Path.open

    def opened(path, *arguments, **options):
        file = own(path, *arguments, **options)
        if path.suffix == ".safetensors":
            inner = file.read
            file_read = lambda *size: count(path, inner(*size))  # noqa: E731 (stands in for a method)
            return _Reading(file, file_read)
        return file

    def count(path, piece):
        found[path.name] = found.get(path.name, 0) + len(piece)
        return piece

    monkeypatch.setattr(Path, "open", opened)
    return found


class _Reading:
    def __init__(self, file, read):
        self.file, self.read = file, read

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def sizes(model):
    return {path.name: path.stat().st_size for path in Path(model.source).glob("*.safetensors")}


def test_every_weight_file_is_read_whole_and_nothing_else(model, read):
    fetch_weights(model)
    assert read == sizes(model)
    assert len(read) > 1


def test_a_stopped_fetch_reads_nothing(model, read):
    fetch_weights(model, lambda: True)
    assert not any(read.values())


def test_weights_that_would_not_fit_into_memory_are_not_read(model, read, monkeypatch):
    monkeypatch.setattr(_fetch, "_free_memory", lambda: sum(sizes(model).values()) - 1)
    fetch_weights(model)
    assert read == {}


@pytest.mark.parametrize(("content", "free"), [("MemTotal: 9 kB\nMemAvailable:    7 kB\n", 7168), ("Else: 1 kB\n", 0)])
def test_free_memory_is_what_the_system_says(content, free, tmp_path, monkeypatch):
    file = tmp_path / "meminfo"
    monkeypatch.setattr(_fetch, "MEMORY", file)
    assert _fetch._free_memory() == 0  # a system that has no such file
    file.write_text(content)
    assert _fetch._free_memory() == free


def test_fetching_changes_nothing_about_the_model(model):
    before = {name: weight.clone() for name, weight in load_model(model).state_dict().items()}
    with Fetching() as fetching:
        fetching.begin(model)
        fetching.wait()
    after = load_model(model).state_dict()
    assert all(weight.equal(after[name]) for name, weight in before.items())


def test_leaving_early_stops_the_thread_and_waits_for_nothing(model, monkeypatch):
    asked = []

    def endless(_, stopped):
        while not stopped():
            asked.append(stopped())

    monkeypatch.setattr("thalweg.experiments._checkpoints.measure.fetch_weights", endless)
    with Fetching() as fetching:
        fetching.begin(model)
        thread = fetching._thread
    thread.join(10)
    assert not thread.is_alive()
    assert thread.daemon


def test_an_error_while_fetching_is_left_to_whoever_loads(model, monkeypatch):
    def failing(*_):
        raise OSError("no disk")

    monkeypatch.setattr("thalweg.experiments._checkpoints.measure.fetch_weights", failing)
    with Fetching() as fetching:
        fetching.begin(model)
        fetching.wait()
        fetching.wait()
    assert len(load_model(model).state_dict())
