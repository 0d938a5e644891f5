"""What is said of a real pretrained model is true of it: SmolLM2 on the first 48 problems of GSM8K.

The numbers were found independently, from eager attention and singular values in float64; the sentences are a golden,
``python tests/experiments/test_smollm2.py RUN`` writes it anew from such a run; then look at what changed.
"""

import math
import sys
from pathlib import Path

import polars as pl
import pytest

import thalweg
from thalweg.experiments._survey.view import cards
from thalweg.store import Run, open_run

GOLDEN = Path(__file__).parent / "smollm2.txt"


@pytest.fixture(scope="module")
def run(smollm2, tmp_path_factory):
    """The survey, float32; half a minute of one core."""
    data = smollm2.parents[2] / "data" / "gsm8k_train.jsonl"
    options = thalweg.SurveyOptions(limit=48, dtype="float32", progress=False)
    return thalweg.survey(str(smollm2), str(data), out=tmp_path_factory.mktemp("smollm2") / "run", options=options)


def said(run: Run) -> str:
    """All that stands on the card."""
    [card] = cards(run)
    lines = [f"{card.title} {card.about}"]
    for answer in card.answers:
        lines += [
            f"{answer.question} {answer.text}",
            *(f"  {note}" for note in answer.notes),
            f"  From {answer.rests}.",
        ]
    return "\n".join([*lines, *card.details]) + "\n"


def test_the_sentences(run):
    assert said(run) == GOLDEN.read_text(encoding="utf-8")


def test_the_states_by_depth(run):
    means = run.profile.collect()
    expected = {  # state: norm ratio, normalized entropy, sink rate of the block that reads it
        2: (3.7, 0.44, 0.00),
        3: (9.3, 0.28, 0.22),
        6: (7.5, 0.35, 0.19),
        10: (1.1, 0.44, 0.00),
        12: (175, 0.009, 0.78),
        20: (108, 0.021, 0.89),
        25: (53, 0.06, 1.00),
        28: (37, 0.11, 0.76),
        29: (13, 0.29, 0.59),
    }
    for state, numbers in expected.items():
        for (site, metric), value in zip(
            (("state", "norm_ratio"), ("state", "entropy_normalized"), ("block", "sink_rate")), numbers, strict=True
        ):
            found = means.filter(site=site, index=state, metric=metric)["mean"].item()
            assert found == pytest.approx(value, rel=0.02, abs=0.0051), (state, metric)


def test_compress_with_its_shoulder_and_the_wave_before_it(run):
    wave, compress = run.segments.collect().to_dicts()
    assert (compress["first"], compress["last"], compress["shoulders"]) == (12, 28, [29])
    assert (compress["peak"], round(compress["peak_ratio"]), compress["position_share"]) == (12, 175, 1.0)
    assert (compress["end"], compress["end_state"]) == ("both", 30)
    assert (compress["row_factor"], compress["others_factor"]) == pytest.approx((0.23, 6.4), rel=0.01)
    assert (wave["first"], wave["last"], wave["until"]) == (3, 3, 9)
    assert (wave["massive_prompts"], wave["position"], wave["position_share"]) == pytest.approx(
        (0.83, 0, 0.58), abs=0.005
    )
    phases = dict(run.profile.filter(site="state").select("index", "phase").collect().iter_rows())
    assert [state for state, phase in phases.items() if phase == "mix"] == [0, 1, 2, 10, 11]
    assert [state for state, phase in phases.items() if phase == "wave"] == list(range(3, 10))


def test_every_claim_of_the_paper_holds(run):
    claims = run.claims.filter("decides").collect()
    assert set(claims["mark"]) == {"as the paper says"}
    phases = run.phases.collect().row(0, named=True)
    assert [phases[f"{phase}_entropy_normalized"] for phase in ("mix", "compress", "refine")] == pytest.approx(
        [0.49, 0.035, 0.34], abs=0.006
    )
    assert [phases[f"{phase}_sink_rate"] for phase in ("mix", "compress", "refine")] == pytest.approx(
        [0.00, 0.86, 0.59], abs=0.006
    )
    assert [phases[f"{phase}_mixing_normalized"] for phase in ("mix", "compress", "refine")] == pytest.approx(
        [0.63, 0.40, 0.46], abs=0.006
    )
    back = claims.filter(claim="entropy comes back")["mean"].item()
    assert back == pytest.approx(0.66, abs=0.006)


def test_the_row_compresses_and_its_norm_alone_would_do(run):
    phases = run.phases.collect().row(0, named=True)
    assert (phases["row_compresses"], phases["row_explains"], phases["given_back_n"]) == ("yes", "norm", 16)
    assert phases["given_back"] == pytest.approx(0.90, abs=0.006)
    measured = run.layers.filter(pl.col("entropy_without_massive").is_not_nan()).collect()
    assert measured["prompt"].unique().sort().to_list() == list(range(16))


def test_the_coupling_is_the_papers(run):
    row = run.coupling.collect().row(0, named=True)
    assert (row["coupling_entropy"], row["coupling_sink"]) == pytest.approx((-0.91, 0.73), abs=0.006)
    assert math.isnan(row["coupling_entropy_std"])


def test_a_scan_of_its_first_tokens_is_the_surveys_course_of_position_0(run, smollm2, tmp_path):
    """Natalia's problem and Weng's; the file's weights lie in memory, dequantized."""
    first = run.layers.filter(pl.col("prompt") < 2).collect()
    found = thalweg.scan(str(smollm2), first_tokens=["Natalia", "Weng"], out=tmp_path / "scan", progress=False)
    order = dict(found.table("tokens").select("token", "id").collect().iter_rows())
    norms = found.table("norms").collect().sort("id", "state")
    for prompt, token in enumerate(("N", "W")):
        (number,) = [identifier for text, identifier in order.items() if text.startswith(token)]
        expected = first.filter(prompt=prompt).sort("state")["sink_norm"].to_list()
        assert norms.filter(id=number)["norm"].to_list() == pytest.approx(expected, rel=1e-5), token


if __name__ == "__main__":
    GOLDEN.write_text(said(open_run(sys.argv[1])), encoding="utf-8")
