"""What is shown of lenses: all of a model in one set of panels, and of each what it says."""

import math

import pytest
from tests.advised import with_lens, with_training
from tests.synthetic_run import PLANTED, build_run
from tests.viewed import means, sections, spans

from thalweg.experiments._lens import view
from thalweg.shown import PALETTE
from thalweg.store import open_run

FALLING = [900.0, 400.0, 200.0, 100.0, 60.0, 44.0, 41.5, 40.2, 40.0]
TUNED = [300.0, 120.0, 90.0, 70.0, 50.0, 43.0, 41.0, 40.1, 40.0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = build_run(tmp_path_factory.mktemp("runs") / "run", (PLANTED,), ("words",), prompts=4).path
    with_lens(path, FALLING)
    return open_run(with_lens(path, TUNED, lens="tuned", block_length=512))


def test_all_lenses_are_in_one_set_of_panels(run):
    together = sections(view, run)[0]
    assert together.title == "planted on words"
    assert together.name.startswith("lens_planted")
    assert (together.key, together.columns, together.legend) == ("", 2, "shared")
    names = ["logit lens, row by row", "tuned lens, blocks of 512 tokens"]
    for panel in together.panels:
        assert [line.name for line in panel.lines] == names
        assert [line.color for line in panel.lines] == list(PALETTE[:2])
        assert spans(panel) == {"compress phase": (2, 7)}
        assert panel.x == "state"
    assert means(together.panels[0]) == {names[0]: FALLING, names[1]: TUNED}
    assert means(together.panels[3])[names[0]] == pytest.approx([math.log(value / 40) for value in FALLING])


def test_axes_say_what_they_show(run):
    axes = [(panel.title, panel.y, panel.log_y, panel.share) for panel in sections(view, run)[0].panels]
    assert axes == [
        ("Perplexity", "[no unit]", True, False),
        ("Entropy of the output", "[nats]", False, False),
        ("Top-1 agreement with the last state", "[share of tokens]", False, True),
        ("KL to the last state", "[nats]", False, False),
    ]


def test_perplexity_has_a_uniform_guess_and_ends_at_thrice_its_nats(run):
    perplexity, *others = sections(view, run)[0].panels
    assert [(rule.name, rule.value) for rule in perplexity.rules] == [("uniform guess", 500)]
    assert math.log(perplexity.ceiling) == pytest.approx(3 * math.log(500))
    assert not any(panel.rules or panel.ceiling for panel in others)


def test_each_lens_says_its_own_and_has_the_key_of_its_findings(run):
    _, logit, tuned = sections(view, run)
    keys = {findings.header.settings["lens"]: findings.header.key for findings in run.experiments("lens")}
    assert (logit.key, tuned.key) == (keys["logit"], keys["tuned"])
    assert logit.title == "planted on words: logit lens, row by row"
    assert tuned.title == "planted on words: tuned lens, blocks of 512 tokens"
    assert (logit.name, tuned.panels) == ("", ())
    assert logit.sentences == [
        "Perplexity is 40.000 at state 8, averaged over tokens; from state 4 on the most probable token is the last "
        "state's at least half of the time; nine tenths of the fall in loss from a uniform guess, ln 500 = 6.2 nats, "
        "are reached from state 5 on; state 0 costs more than that"
    ]


def test_the_table_has_a_row_a_state(run):
    _, logit, tuned = sections(view, run)
    (table,) = logit.tables
    assert table.title == "planted on words: logit lens, row by row; 1,090 tokens of 2 prompts"
    assert tuned.tables[0].title.endswith("tuned lens, blocks of 512 tokens; 1,090 tokens of 2 blocks")
    assert table.columns == ("state", "perplexity", "loss", "output entropy", "agreement", "KL to last")
    assert table.rows[0] == [0, "900", "6.802", "7.302", "0.044", "3.114"]
    assert table.rows[8][-2:] == ["1.000", "0.000"]
    assert table.folded == "Averages by state over the scored tokens, every token counting once"


def test_lenses_of_one_name_are_told_apart_by_their_key(tmp_path):
    path = build_run(tmp_path / "run", (PLANTED,), ("words",), prompts=4).path
    with_lens(path, FALLING, lens="tuned", hash="a")
    run = open_run(with_lens(path, TUNED, lens="tuned", hash="b"))
    keys = [findings.header.key for findings in run.experiments("lens")]
    panel = sections(view, run)[0].panels[0]
    assert [line.name for line in panel.lines] == [f"tuned lens, row by row ({key})" for key in keys]


def test_data_are_in_the_name_where_there_are_several(tmp_path):
    path = build_run(tmp_path / "run", (PLANTED,), ("words", "sums"), prompts=4).path
    with_lens(path, FALLING)
    words, _, sums, _ = sections(view, open_run(with_lens(path, FALLING, data="sums", block_length=8)))
    assert words.name.endswith("_words")
    assert sums.name.endswith("_sums")


def test_a_training_shows_how_far_it_came_and_how_to_use_it(tmp_path):
    run = open_run(with_training(tmp_path / "run", [[3.0, 2.0], [2.5, 1.5], [2.0, 1.0]]))
    (section,) = sections(view, run)
    (findings,) = run.experiments("tuned_lens")
    (table,) = section.tables
    assert section.key == findings.header.key
    assert section.title == "planted on words: training of a tuned lens"
    assert table.title == "KL to the last state, nats"
    assert table.columns == ("state", "KL at step 0", "KL at step 2")
    assert table.rows == [[0, 3.0, 2.0], [1, 2.0, 1.0]]
    place = findings.directory / "lens"
    assert table.note == f"lens: {place}    use it: thalweg lens lab/planted --tuned {place}"
    (half,) = sections(view, open_run(with_training(tmp_path / "half", [[3.0, 2.0]], status="interrupted")))
    assert half.tables[0].columns == ("state", "KL at step 0")
    assert half.tables[0].note == ""


def test_a_run_without_a_lens_shows_none(tmp_path):
    assert sections(view, build_run(tmp_path / "run")) == []
