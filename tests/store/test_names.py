"""File names are safe and unique whatever models and data sets are called."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.synthetic_run import Plant, build_run

from thalweg.store import Shard, slug
from thalweg.store._shards import is_ours, is_pair_folder, is_record, part_name, record_name

NASTY = ("../../etc/passwd", "a/b", "a\\b", "a b", "", "...", "con\0", "<script>", "x" * 5000, "Ünïcode", "a.b")


@pytest.mark.parametrize("name", NASTY)
def test_a_slug_is_one_plain_file_name(name):
    assert re.fullmatch(r"[A-Za-z0-9_-]{9,60}", slug(name))


@given(st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_different_names_have_different_slugs(names):
    assert slug(names[0]) != slug(names[1])


def test_nasty_names_do_not_collide():
    assert len({slug(name) for name in NASTY}) == len(NASTY)
    assert slug("a", "bc") != slug("ab", "c")


def test_a_run_of_nasty_names_stays_inside_its_directory(tmp_path):
    models = tuple(Plant(name, blocks=1, heads=1) for name in NASTY[:3])
    run = build_run(tmp_path / "run", models, ("../x", "..\\x"), prompts=1)
    assert run.layers.collect().height == len(models) * 2 * 2
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert len(list((run.path / "survey").rglob("*.prompts.parquet"))) == len(models) * 2
    assert all(is_pair_folder(path.name) for path in run.path.glob("survey/*/*") if path.is_dir())


@pytest.mark.parametrize(("first", "stop"), [(3, 3), (4, 3), (-1, 2)])
def test_a_shard_has_rows(first, stop):
    with pytest.raises(ValueError, match="expected 0 <= first_row < stop_row"):
        Shard("m", "main", "d", first, stop)


@pytest.mark.parametrize("first", [0, 999_999_999, 12_345_678_901])
def test_files_of_a_shard_are_known_by_their_names(first):
    part, record = part_name(first, first + 5, "heads"), record_name(first, first + 5)
    assert is_ours(part, ["heads"])
    assert is_ours(record, [])
    assert is_ours(part + ".tmp", ["heads"])
    assert not is_ours(part, ["layers"])
    assert is_record(record)
    assert not any(is_record(name) for name in (part, record + ".tmp", "header.json", "x" + record))
    assert not any(is_ours(name, ["heads"]) for name in ("notes.json", "heads.parquet", f"my-{record}", f"{part}.bak"))
