"""``thalweg list``: what there is, complete, as a table and as JSON."""

import json

import pytest

from thalweg.capture import PROVED
from thalweg.catalogue import METRICS
from thalweg.prompts import list_data, list_labelled_data

EXPECTED = {
    "metrics": ("metric", [one.name for one in METRICS]),
    "models": ("family", sorted(PROVED)),
    "data": ("name", [one.name for one in (*list_data(), *list_labelled_data())]),
}


@pytest.mark.parametrize("what", EXPECTED)
def test_everything_is_listed_once_in_order(thalweg, what):
    column, names = EXPECTED[what]
    listed = json.loads(thalweg("list", what, "--json").out)
    assert [row[column] for row in listed] == names
    outcome = thalweg("list", what)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith(column)
    assert [line.split()[0] for line in lines[1:] if not line.startswith(" ")] == names


def test_a_metric_is_listed_with_its_unit_and_range(thalweg):
    listed = {row["metric"]: row for row in json.loads(thalweg("list", "metrics", "--json").out)}
    for one in METRICS:
        assert listed[one.name]["unit"] == one.unit
        assert listed[one.name]["range"] == one.range


def test_gated_data_is_marked(thalweg):
    listed = {row["name"]: row["access"] for row in json.loads(thalweg("list", "data", "--json").out)}
    assert {name for name, access in listed.items() if access == "gated"} == {"the-stack"}
