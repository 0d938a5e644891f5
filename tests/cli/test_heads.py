"""`thalweg heads` says which heads come nearest to which pattern, and a mistake in one line."""

import json

import pytest


def test_it_says_which_heads_and_where(thalweg, tmp_path):
    given = ("heads", "planted", "--prompt", 1, "--out", tmp_path / "run")
    outcome = thalweg(*given)
    assert outcome.code == 0
    assert "Over all blocks, no phase being known: nearest to diffuse head" in outcome.out
    assert "Massive rows: position 0 (" in outcome.out
    assert "Most attention goes to position 0 (" in outcome.out
    assert "draw it: thalweg figures" in outcome.out
    answer = json.loads(thalweg(*given, "--json").out)
    assert {"sink_score", "patterns", "block"} <= set(answer["heads"][0])
    assert "map" not in answer["heads"][0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--blocks", "0,99", "--heads", "all"), "--blocks 99 is out of range; this model has blocks 0 to"),
        (("--blocks", "0", "--heads", "99"), "--heads 99 is out of range; this model has heads 0 to"),
        (("--heads", "all"), "--heads all takes --blocks beside it"),
        (("--prompt", 10**6), "--prompt 1000000: bundled has rows 0 to"),
        (("--prompt", "-1"), "--prompt must be at least 0; got -1"),
        (("--max-map", 3), "and maps of at most 3 are kept. Name a shorter prompt, raise --max-map to"),
    ],
)
def test_mistakes_are_one_line(thalweg, tmp_path, given, said):
    outcome = thalweg("heads", "planted", *given, "--out", tmp_path / "run")
    assert said in outcome.complaint
    assert outcome.code == 2
