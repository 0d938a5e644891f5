"""Tables of a run: averaged as NumPy averages them, rounded as it is said, and text stays text."""

import base64
import io
import json
import logging
import math

import numpy as np
import polars as pl
import pytest
from pyarrow import parquet
from scipy import stats
from tests.advised import with_maps
from tests.compared_run import CONDITIONS, with_ablation
from tests.gallery import EVIL
from tests.synthetic_run import PLAIN, PLANTED, Plant, build_run, header, open_survey

import thalweg
from thalweg.errors import RunError, UsageError
from thalweg.experiments import experiments, tables_of
from thalweg.tables._printed import TIMES_OVER, number


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = build_run(tmp_path_factory.mktemp("tables") / "run", models=(PLANTED,), data=("words",)).path
    return with_ablation(path)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("tables") / "both", models=(PLANTED, PLAIN), data=("words",))


def lines(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_heads_are_averaged_over_prompts(run):
    frame = thalweg.table(run, "heads").frame
    values = run.heads.filter(block=3, head=1).collect()["sink_score"].to_numpy().astype(float)
    row = frame.row(by_predicate=(pl.col("block") == 3) & (pl.col("head") == 1), named=True)
    assert (frame.height, row["prompts"], row["sink_score_n"]) == (32, 8, 8)
    assert row["sink_score"] == pytest.approx(values.mean())
    assert row["sink_score_std"] == pytest.approx(values.std(ddof=1))
    interval = stats.t.interval(0.95, 7, values.mean(), stats.sem(values))
    assert (row["sink_score_low"], row["sink_score_high"]) == pytest.approx(interval)
    assert row["dormant"] == 1.0
    assert row["top_position"] == 0


def test_ratios_are_averaged_as_logarithms(run):
    row = thalweg.table(run, "layers").frame.row(by_predicate=pl.col("state") == 4, named=True)
    logs = np.log(run.layers.filter(state=4).collect()["row_ratio"].to_numpy())
    assert row["row_ratio"] == pytest.approx(np.exp(logs.mean()))
    assert row["row_ratio_std"] == pytest.approx(logs.std(ddof=1))
    shown = lines(thalweg.table(run, "layers", columns="state,row_ratio,row_ratio_std", format="md"))
    assert shown[2 + 4] == ["4", f"{number(row['row_ratio'], row['row_ratio_std'], geometric=True)}"]
    assert f" {TIMES_OVER} " in shown[6][1]


@pytest.mark.parametrize(
    ("expected", "value", "std", "low", "high"),
    [
        ("0.123 ± 0.023", 0.123456, 0.0234, None, None),
        ("2,467 ± 0", 2467.4030715359886, 3e-13, None, None),
        ("0 ± 0", 0.0, 0.0, None, None),
        ("0.12 ± 0.10", 0.123456, 0.0996, None, None),
        ("23,350 ± 120", 23345.6, 123.4, 1.0, 2.0),
        ("23,300 ± 1,200", 23345.6, 1234.5, None, None),
        ("0.5000 ± 0", 0.5, 0.0, None, None),
        ("0.5000", 0.5, math.nan, None, None),
        ("23,346 [23,301, 23,391]", 23345.6, None, 23300.9, 23391.0),
        ("0.1000 [0.0950, 0.1050]", 0.1, None, 0.095, 0.105),
        ("0.1000", 0.1, None, math.nan, math.nan),
        ("0", 0.0, None, None, None),
        ("-0.01235", -0.0123456, None, None, None),
        ("1.235e-05", 0.0000123456, None, None, None),
        ("(1.23 ± 0.12)e-05", 0.0000123456, 0.0000012, None, None),
        ("1.235e+43", 1.23456e43, None, None, None),
        ("1,235", 1234.56, None, None, None),
        ("∞", math.inf, None, None, None),
        ("-∞", -math.inf, None, None, None),
        ("1,234", 1234, None, None, None),
    ],
)
def test_numbers_are_rounded_by_their_spread(expected, value, std, low, high):
    assert number(value, std, low, high) == expected


def test_a_profile_has_a_column_for_each_metric_and_a_row_for_each_depth(run):
    text = thalweg.table(run, "profile", format="md")
    head, _, *rows = lines(text)
    assert text.startswith("survey.profile; planted on words\n")
    assert head[:3] == ["State, block", "Phase", r"Normalized entropy \[share of ln r\]"]
    assert "Sink rate of the block" in head[6]
    assert [row[0] for row in rows] == [str(state) for state in range(9)]
    assert rows[3][1] == "compress"
    assert rows[8][6] == "\N{EN DASH}"  # no block reads the last state
    assert "n from 6 to 8" in text
    mean = run.profile.filter(metric="sink_rate", index=3).collect().row(0, named=True)
    assert rows[3][6] == number(mean["mean"], mean["std"])


def test_metrics_of_a_profile_can_be_chosen_and_a_frame_has_all(run):
    frame = thalweg.table(run, "profile").frame
    assert frame.equals(run.profile.collect())
    shown = thalweg.table(run, "profile", columns=["anisotropy"])
    assert set(shown.frame["metric"]) == {"anisotropy"}
    assert lines(str(shown))[0][2] == r"Anisotropy \[share of squared norm\]"


def test_a_wide_table_of_few_rows_is_turned(run, both):
    head, _, *rows = lines(thalweg.table(run, "phases", format="md"))
    assert head == ["Quantity", "Value"]
    told = dict(rows)
    assert told[r"Compress first \[state\]"] == "2"
    assert told["Peak state"] == "2"
    assert told["Has massive activations"] == "yes"
    head, *_ = lines(thalweg.table(both, "phases", format="md"))
    assert head == ["Model", "lab/planted", "lab/plain"]


def test_what_is_undefined_is_a_dash_with_its_reason_below(both):
    text = thalweg.table(both, "coupling", format="md")
    assert [row[2:4] for row in lines(text)[2:]] == [["0.6100", "0.1200"], ["\N{EN DASH} (a)", "\N{EN DASH} (a)"]]
    assert "\n\n\\(a\\)" not in text
    assert text.rstrip().endswith("(a) the sink rate is the same in every block.")
    written = thalweg.table(both, "coupling", format="latex")
    assert r"--\textsuperscript{a}" in written
    assert "Reason" not in written


def test_an_experiment_stands_for_its_main_table(run):
    frame = thalweg.table(run, "ablation").frame
    assert frame.equals(run.experiments("ablation")[-1].table("verdicts").collect())
    assert thalweg.table(run, "ablation.verdicts").frame.equals(frame)
    assert thalweg.table(run, "verdicts").frame.equals(frame)
    assert thalweg.table(run, "survey").frame.equals(thalweg.table(run, "profile").frame)


def test_the_survey_has_the_name_that_others_have_too(run):
    assert thalweg.table(run, "segments").frame.equals(run.segments.collect())
    other = thalweg.table(run, "ablation.segments").frame
    assert other.columns == list(tables_of("ablation")["segments"].schema)


def test_the_latest_settings_are_taken_and_that_is_said(tmp_path, caplog):
    with_ablation(tmp_path / "run", conditions=CONDITIONS[:2])
    run = with_ablation(tmp_path / "run", conditions=CONDITIONS[:3], settings={"blocks": "1,3"})
    first, last = run.experiments("ablation")
    with caplog.at_level(logging.WARNING, "thalweg.tables"):
        assert set(thalweg.table(run, "conditions").frame["condition"]) == {"intact", "blocks 1", "blocks 3"}
    [said] = [record.getMessage() for record in caplog.records]
    assert f"{last.header.key} (blocks: 1,3)" in said
    assert f"--key chooses another: {first.header.key} (blocks: auto)" in said
    assert thalweg.table(run, "conditions", key=first.header.key).frame.height == 2
    with pytest.raises(UsageError, match=f"--key 'x': .* holds ablation by {first.header.key}"):
        thalweg.table(run, "conditions", key="x")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("profil", "holds no table 'profil'. Did you mean profile?"),
        ("ablation.effect", "Did you mean effects?"),
        ("clip", "Make it: thalweg clip "),
        ("zzz", "holds no table 'zzz'. It holds survey, ablation, layers, heads"),
    ],
)
def test_an_unknown_name_says_what_there_is(run, name, words):
    with pytest.raises(RunError) as error:
        thalweg.table(run, name)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_that_is_not_written_yet_is_refused(tmp_path):
    with open_survey(tmp_path, header()):
        pass
    with pytest.raises(RunError, match=r"has no profile\.parquet yet"):
        thalweg.table(tmp_path, "profile")
    assert thalweg.table(tmp_path, "heads").frame.is_empty()


@pytest.mark.parametrize(("columns", "words"), [("sink_scor", "Did you mean sink_score"), ("a,b", "has no 'a'")])
def test_an_unknown_column_says_which_there_are(run, columns, words):
    with pytest.raises(UsageError, match=words):
        thalweg.table(run, "heads", columns=columns)


def test_data_formats_keep_every_digit_and_say_units(run, tmp_path):
    frame = thalweg.table(run, "heads").frame
    table = parquet.read_table(thalweg.table(run, "heads", path=tmp_path / "new" / "heads.parquet"))
    assert pl.from_arrow(table).equals(frame)
    assert table.schema.field("sink_score").metadata[b"unit"] == b"share of attention"
    text = thalweg.table(run, "heads", format="csv")
    assert pl.read_csv(io.StringIO(text))["sink_score_std"].to_list() == frame["sink_score_std"].to_list()
    told = json.loads(thalweg.table(run, "heads", format="json"))
    assert told["table"] == "survey.heads"
    assert {"name": "sink_score", "unit": "share of attention"}.items() <= told["columns"][5].items()
    assert [row["sink_score"] for row in told["rows"]] == frame["sink_score"].to_list()
    segments = pl.read_csv(io.StringIO(thalweg.table(run, "ablation.segments", format="csv")))
    assert segments["dims"].to_list() == [17]


def test_a_file_is_written_whole_in_place_of_what_is_there(run, tmp_path):
    file = tmp_path / "phases.tex"
    file.write_text("mine")
    assert thalweg.table(run, "phases", path=file) == file
    assert file.read_text() == thalweg.table(run, "phases", format="latex")
    assert [path.name for path in tmp_path.iterdir()] == ["phases.tex"]
    with pytest.raises(UsageError, match=r"expected a name that ends in \.md, \.csv"):
        thalweg.table(run, "phases", path=tmp_path / "phases.docx")
    with pytest.raises(UsageError, match="say where it goes: --out FILE"):
        thalweg.table(run, "phases", format="parquet")
    with pytest.raises(RunError, match="a folder lies in its place"):
        thalweg.table(run, "phases", path=tmp_path, format="md")


HOSTILE = f"| a\\b $x^2$ `code` *bold* _it_ {{x}} ~50% #1 & \u202e \x1b[31m [l](u) {EVIL}"


def test_text_from_anywhere_stays_text(tmp_path):
    models = (Plant(HOSTILE, 2, 1, 1, 1, (3,), 900.0), Plant("b" * 500, 2, 1, 1, 1, (3,), 900.0))
    run = build_run(tmp_path / "run", models=models, data=("words",), token=HOSTILE)
    text, written = (thalweg.table(run, "massive", columns="all", format=each) for each in ("md", "latex"))
    for shown in (text, written):
        assert not set("\x1b\u202e") & set(shown)
        assert "b" * 81 not in shown
    [head, *_] = lines(text.replace(r"\|", "!"))
    assert all(len(row) == len(head) for row in lines(text.replace(r"\|", "!")))
    assert r"\</script\>" in text
    assert r"\*bold\* \_it\_" in text
    assert r"\textless{}/script\textgreater{}" in written
    assert r"\$x\textasciicircum{}2\$" in written
    assert r"a\textbackslash{}b" in written
    assert r"\textasciitilde{}50\% \#1 \&" in thalweg.table(run, "phases", format="latex", columns="model,data")


def test_every_table_of_every_experiment_can_be_printed(run):
    for experiment in experiments():
        for folder in (folder for folder in experiment.tables if run.experiments(folder)):
            for name in run.experiments(folder)[-1].header.tables:
                shown = thalweg.table(run, f"{folder}.{name}")
                assert str(shown).count("\n| ") >= 2, (folder, name)
                assert thalweg.table(run, f"{folder}.{name}", format="latex").count("\\\\") > 1
                assert [*shown.declared] == shown.frame.columns


@pytest.mark.parametrize("form", ["csv", "json"])
def test_bytes_are_written_in_base64(form, tmp_path):
    run = with_maps(build_run(tmp_path / "run", (PLANTED,), ("words",)).path)
    text = thalweg.table(run, "maps.maps", format=form)
    rows = pl.read_csv(io.StringIO(text)).to_dicts() if form == "csv" else json.loads(text)["rows"]
    kept = thalweg.open_run(run).experiments("maps")[0].table("maps").collect()
    assert [base64.b64decode(row["map"]) for row in rows] == kept["map"].to_list()
