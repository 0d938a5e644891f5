"""Features are found by their text, there whole or not at all, and read without being held."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from thalweg.errors import RunError
from thalweg.store import FeatureStore, text_hash
from thalweg.store import _features as module

TEXTS = [f"text {number}" for number in range(9)]
HASHES = [text_hash(text) for text in TEXTS]


def rows(count=9, dtype=np.float32):
    return np.random.default_rng(0).standard_normal((count, 4, 3)).astype(dtype)


@pytest.fixture
def store(tmp_path):
    made = FeatureStore(tmp_path, {"pooling": "mean"})
    made.write(HASHES[:4], rows()[:4])
    made.write(HASHES[4:], rows()[4:])
    return made


def test_what_was_written_is_read_in_any_order_by_any_store(store, tmp_path):
    order = [7, 0, 3, 3, 8]
    for one in (store, FeatureStore(tmp_path, {"pooling": "mean"})):
        found = one.read([HASHES[place] for place in order])
        assert (found.shape, found.dtype, len(found)) == ((5, 4, 3), np.float32, 5)
        assert np.array_equal(np.asarray(found), rows()[order])
        assert np.array_equal(found[1], rows()[0])
        assert np.array_equal(found[1:3], rows()[[0, 3]])
        assert np.array_equal(found[[4, 0]], rows()[[8, 7]])
        assert np.array_equal(found[np.array([-1])], rows()[[8]])
        assert np.array_equal(found.state(2), rows()[order, 2])
        assert found.present.all()
    with pytest.raises(IndexError, match=r"a state of 0\.\.3, got 4"):
        found.state(4)


def test_a_text_without_features_is_a_row_of_nan(store):
    found = store.read([HASHES[1], text_hash("another")])
    assert found.present.tolist() == [True, False]
    assert np.isnan(found[1]).all()
    assert np.isnan(found.state(0)[1]).all()
    assert np.array_equal(found[0], rows()[1])


def test_features_made_in_another_way_are_others(store, tmp_path):
    other = FeatureStore(tmp_path, {"pooling": "last"})
    assert len(store) == 9
    assert len(other) == 0
    with pytest.raises(RunError, match="holds no features yet"):
        other.read(HASHES)
    other.write(HASHES[:1], rows(1, np.float64))
    assert other.read(HASHES[:1]).dtype == np.float64
    assert np.array_equal(np.asarray(store.read(HASHES)), rows())
    assert json.loads((other.directory / "settings.json").read_text()) == {"pooling": "last"}


def test_more_parts_than_may_be_open_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "OPEN_FILES", 2)
    made = FeatureStore(tmp_path, {})
    for place in range(9):
        made.write([HASHES[place]], rows()[[place]])
    assert np.array_equal(np.asarray(made.read(HASHES)), rows())


def test_a_full_disk_leaves_what_is_whole(store, tmp_path, monkeypatch):
    opened, files = Path.open, sorted(store.directory.iterdir())

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            self.file.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    def full(path, mode="r", *args, **options):
        file = opened(path, mode, *args, **options)
        return Full(file) if ".npy" in path.name and "w" in mode else file

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(RunError, match=r"no space left on the disk while writing .* the parts that are finished stay"):
        store.write([text_hash("new")], rows(1))
    monkeypatch.undo()
    assert sorted(store.directory.iterdir()) == files
    again = FeatureStore(tmp_path, {"pooling": "mean"})
    assert text_hash("new") not in again
    assert np.array_equal(np.asarray(again.read(HASHES)), rows())
    again.write([text_hash("newer")], rows(1))
    assert len(FeatureStore(tmp_path, {"pooling": "mean"})) == 10


def test_what_a_killed_writer_left_counts_for_nothing_and_goes(store, tmp_path):
    folder = store.directory
    (folder / f"{'a' * 16}.npy").write_bytes(b"no record")
    (folder / f"{'b' * 16}.npy.tmp").write_bytes(b"half")
    (folder / f"{'b' * 16}.json.tmp").write_bytes(b"half")
    (folder / "settings.json.tmp").write_bytes(b"half")
    (folder / "notes.npy").write_bytes(b"not ours")
    again = FeatureStore(tmp_path, {"pooling": "mean"})
    assert len(again) == 9
    again.write([text_hash("new")], rows(1))
    assert {path.name for path in folder.glob("*") if path.name[:2] in ("aa", "bb") or ".tmp" in path.name} == set()
    assert (folder / "notes.npy").exists()
    assert len(FeatureStore(tmp_path, {"pooling": "mean"})) == 10


def flipped(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    return bytes(content)


HARMS = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "emptied": lambda file: file.write_bytes(b""),
    "flipped": lambda file: file.write_bytes(flipped(file)),
    "gone": lambda file: file.unlink(),
    "record": lambda file: file.with_suffix(".json").write_bytes(flipped(file.with_suffix(".json"))),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_part_is_named_and_its_texts_are_measured_again(store, tmp_path, caplog, harm):
    file = sorted(store.directory.glob("*.npy"))[0]
    HARMS[harm](file)
    if harm != "record":  # which a store reads once
        with pytest.raises(
            RunError, match=rf"{file.name} is (damaged|missing).*\. Run the same command again"
        ) as raised:
            np.asarray(store.read(HASHES))
        assert "\n" not in str(raised.value)
    again = FeatureStore(tmp_path, {"pooling": "mean"})
    (said,) = [record.getMessage() for record in caplog.records]
    assert file.stem in said
    assert said.endswith("its texts are measured again.")
    missing = [place for place, digest in enumerate(HASHES) if digest not in again]
    assert missing in ([0, 1, 2, 3], [4, 5, 6, 7, 8])
    again.write([HASHES[place] for place in missing], rows()[missing])
    assert np.array_equal(np.asarray(FeatureStore(tmp_path, {"pooling": "mean"}).read(HASHES)), rows())
    assert len(caplog.records) == 1


def test_rows_that_are_not_those_of_the_texts_are_refused(store):
    for digests, values in ((HASHES[:2], rows(1)), (["a", "a"], rows(2)), (["a"], rows(1)[0])):
        with pytest.raises(ValueError, match="different texts as rows x states x width"):
            store.write(digests, values)
