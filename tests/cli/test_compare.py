"""``thalweg compare``: two runs, or two of one."""

import json

import pytest
from tests.synthetic_run import PLAIN, PLANTED, build_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("compared") / "run", (PLANTED, PLAIN), ("words",)).path


def test_what_moved_is_printed(thalweg, run, tmp_path):
    outcome = thalweg("compare", run, "--of", "planted", "--with", "plain", "--out", tmp_path / "figures")
    assert (outcome.code, outcome.err) == (0, "")
    assert "plain on words against planted on words: sinks" in outcome.out
    assert outcome.out.splitlines()[-2:] == [str(tmp_path / "figures" / f"compare.{kind}") for kind in ("png", "pdf")]
    told = json.loads(thalweg("compare", run, "--json").out)
    assert [row["metric"] for row in told["places"]][:2] == ["entropy_normalized", "mixing_normalized"]
    assert told["heads"] == []
    assert told["answers"][0].startswith("plain on words against planted on words")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--of", "nobody"], "--of 'nobody': "),
        (["runs/nowhere"], "there is no such directory"),
        (["a", "b"], "unexpected extra argument"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_compared_is_one_line(thalweg, run, argv, words):
    assert words in thalweg("compare", run, *argv).complaint


def test_a_page_of_what_moved(thalweg, run, tmp_path):
    alone = build_run(tmp_path / "alone", (PLANTED,), ("words",)).path
    outcome = thalweg("report", alone, "--against", run, "--out", tmp_path / "page.html")
    assert (outcome.code, outcome.out.strip()) == (0, str(tmp_path / "page.html"))
    assert "planted on words (alone) against planted on words (run)" in (tmp_path / "page.html").read_text()
    strange = build_run(tmp_path / "strange", (PLAIN,), ("sums",)).path
    assert (
        "have nothing in common: one holds planted on words" in thalweg("report", strange, "--against", alone).complaint
    )
    assert "there is no such directory" in thalweg("report", alone, "--against", tmp_path / "nowhere").complaint
