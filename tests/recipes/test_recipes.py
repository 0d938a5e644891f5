"""Every figure of the paper is drawn by its recipe at toy size, and shows what the tables hold."""

import json

import numpy as np
import polars as pl
import pytest
from tests import local_mteb
from tests.local_mcq import Tasks
from tests.probed import films

import thalweg
from saved import save
from thalweg.cli import main
from thalweg.errors import UsageError
from thalweg.experiments import experiments
from thalweg.recipes import recipes, reproduce
from thalweg.recipes._recipe import FOLDER
from thalweg.recipes._reproduce import sections_of
from thalweg.reference import Plant, planted_llama
from thalweg.store import open_run

TRAINED = {"model": 2000.0, "trained/checkpoint-1": 2.0, "trained/checkpoint-20": 900.0}
FIGURES = range(1, 35)
TOY = {"lens": {"steps": 2, "step_tokens": 64}, "heads": {"blocks": "0,1"}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("recipes")
    for name, height in TRAINED.items():
        save(planted_llama(Plant(1, 2, {3: height}, (0, 1)), blocks=3, width=32), place / name)
    texts = [{"text": f"{row} green bottles, " * (4 + row % 3)} for row in range(14)]
    (place / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    Tasks(place / "tasks").choice(count=4)
    films(place / "films.jsonl", 40, 1)
    return place


def toy(place, figure):
    """A figure of a tiny model on tiny data."""
    verbs = {step.verb for step in recipes()[figure].steps}
    data = {"": f"{place}/prompts.jsonl", "mcq": f"{place}/tasks", "probe": f"{place}/films.jsonl"}
    if "mteb" in verbs:
        data["mteb"] = [local_mteb.similarity_task(place / "mteb")]
    return reproduce(
        str(figure),
        model=place / ("trained" if "checkpoints" in verbs else "model"),
        data=data,
        limit=12,
        changes={verb: TOY[verb] for verb in verbs & TOY.keys()},
        out=place / "out",
    )


def numbers(run):
    """Every number that the tables of a run hold, however deep in lists."""
    found = [np.zeros(1)]
    for known in experiments():
        for folder, held in known.tables.items():
            for findings in run.experiments(folder):
                for name in (*held.parts, *held.wholes):
                    frame = findings.table(name).collect()
                    for column in frame.get_columns():
                        while isinstance(column.dtype, pl.List):
                            column = column.explode()
                        if column.dtype == pl.Binary:  # square roots of attention, which is drawn to three digits
                            bytes_of = np.frombuffer(b"".join(column), np.uint8)
                            found.append(np.round(np.maximum(np.unique(bytes_of) / 255, 1e-3**0.5) ** 2, 3))
                        elif column.dtype.is_numeric():
                            found.append(column.cast(pl.Float64).drop_nulls().to_numpy())
    every = np.concatenate([*found, *means(run)])
    return np.unique(every[np.isfinite(every)])


QUANTITIES = {
    "sigma1": lambda rows: rows["sigma1_sq"] ** 0.5,
    "frobenius": lambda rows: rows["frobenius_sq"] ** 0.5,
    "alpha_R": lambda rows: rows["alpha"] * rows["R"],
    "M_plus_R": lambda rows: rows["M"] + rows["R"],
    "top_three": lambda rows: rows["sigma1_sq"] + rows["sigma2_sq"] + rows["sigma3_sq"],
    "both": lambda rows: rows["sink_score"] + rows["diagonal"],
}
"""What is drawn of a survey's rows that is no column of them."""


def means(run):
    """Means over prompts, naively, of what a survey's rows hold or give."""
    for table, places in (("layers", ["state"]), ("heads", ["block", "head"]), ("states", ["state"])):
        findings = run.survey if table != "states" else next(iter(run.experiments("attribution")), None)
        if findings is None or table not in findings.header.tables:
            continue
        for _, rows in findings.table(table).collect().group_by(places):
            columns = {
                name: rows[name].cast(pl.Float64).to_numpy() for name in rows.columns if rows[name].dtype.is_float()
            }
            columns |= {
                name: of(columns)
                for name, of in QUANTITIES.items()
                if table == ("heads" if name == "both" else "layers")
            }
            yield np.array(
                [np.mean(values[np.isfinite(values)]) for values in columns.values() if np.isfinite(values).any()]
            )


def drawn(sections):
    """Every number that is drawn as a value."""
    for panel in (panel for section in sections for panel in section.panels):
        for each in panel.points or (*panel.lines, *panel.bars):  # a line among points is a formula's
            yield from each.rows["mean"].cast(pl.Float64).drop_nulls().to_list()
        if panel.heat is not None:
            yield from panel.heat.grid.ravel().tolist()


def strangers(values, known):
    """Those that are no number of the tables, to the precision of a float32."""
    values = np.array([value for value in values if np.isfinite(value)])
    after = np.searchsorted(known, values).clip(1, len(known) - 1)
    near = np.minimum(np.abs(values - known[after - 1]), np.abs(values - known[after]))
    return values[near > 1e-6 * np.maximum(np.abs(values), 1e-12)]


def test_there_is_one_for_each_figure_of_the_paper():
    assert list(recipes()) == list(FIGURES)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_is_drawn_of_what_the_tables_hold(figure, place):
    [done] = toy(place, figure)
    assert {file.suffix for file in done.files} == {".png", ".pdf"}
    assert all(file.stat().st_size > 5_000 for file in done.files)
    assert (
        f"{'trained' if 'checkpoint' in str(recipes()[figure].steps) else 'model'} in place of" in done.substituted[0]
    )
    run = open_run(done.run)
    values = list(drawn(sections_of(recipes()[figure], run)))
    assert values
    assert strangers(values, numbers(run)).tolist() == []


SPOILT = {
    "an unknown field": ("figure = 1", "figure = 1\nmodle = 2", r"unknown field modle\. Did you mean models\?"),
    "an unknown field of a step": ('verb = "survey"', 'verb = "survey"\nopts = 1', r"unknown field steps\.0\.opts"),
    "an unknown verb": ('"survey"', '"survay"', r"steps\.0: no verb survay\. Did you mean survey\?"),
    "an unknown option": ("[[draws]]", "options = {blocs = 1}\n\n[[draws]]", r"steps\.0: survey has no option blocs"),
    "no shows": ('shows = "', '# "', r"shows: Field required"),
    "a word for a number": ("figure = 1", 'figure = "one"', r"figure: "),
    "no model": ("[[models]]", "[[draws]]", r"unknown field draws\.0\.(name|billions)"),
    "no TOML": ("figure = 1", "figure = = 1", r"expected a recipe in TOML; got"),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_recipe_that_is_none_is_a_line(spoilt, tmp_path):
    before, after, said = SPOILT[spoilt]
    (tmp_path / "mine.toml").write_text((FOLDER / "figure_01.toml").read_text().replace(before, after))
    with pytest.raises(UsageError, match=rf"mine\.toml: .*{said}") as refused:
        reproduce(str(tmp_path / "mine.toml"))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"figure": "99"}, r"the paper has no figure 99; expected 1 to 34, all, or a \.toml file"),
        ({"figure": "0"}, r"no figure 0"),
        ({"figure": "four"}, r"expected the number of a figure, all, or a \.toml file; got 'four'"),
        ({"figure": "none.toml"}, r"none\.toml: expected a recipe; got No such file"),
        ({"figure": "4", "changes": ["lens"]}, r"--set expects VERB\.OPTION=VALUE, such as lens\.steps=20; got 'lens'"),
        ({"figure": "4", "changes": ["lens.stepz=2"]}, r"--set: lens has no option stepz\. Did you mean steps\?"),
        ({"figure": "29", "data": ["mcq=nowhere"]}, r"--data mcq=nowhere: expected a directory with tasks of lm-eval"),
    ],
)
def test_what_cannot_be_asked_for_is_a_line(asked, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        reproduce(**asked, model="planted", out=tmp_path)


def test_of_several_figures_those_that_cannot_be_drawn_are_named(place, monkeypatch, capsys):
    some = {figure: recipes()[figure] for figure in (1, 31)}
    monkeypatch.setattr("thalweg.recipes._recipe.recipes", lambda: some)
    told = ["--model", f"{place}/model", "--data", f"{place}/prompts.jsonl", "--data", "probe=nowhere.jsonl"]
    monkeypatch.setattr("sys.argv", ["thalweg", "reproduce", "all", *told, "--limit", "12", "--out", f"{place}/out"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Figure 1: ")
    assert lines[-1].startswith("  not drawn: nowhere.jsonl: expected a")


def test_a_figure_shows_what_its_own_steps_found_alone(place):
    given = {"": f"{place}/prompts.jsonl", "mcq": f"{place}/tasks", "probe": films(place / "others.jsonl", 40, 2)}
    [first] = toy(place, 31)
    [done] = reproduce("8", model=place / "model", data=given, limit=12, changes=TOY, out=place / "out")
    assert done.run == first.run
    assert len(open_run(done.run).experiments("probe")) > 1
    files = [file.name for file in done.files if file.suffix == ".png"]
    assert files == [f"figure_08_{number}.png" for number in (1, 2, 3)]  # the lens, the choice and its own probe


def test_what_is_measured_already_is_not_measured_again(place, monkeypatch):
    toy(place, 1)
    monkeypatch.setattr("thalweg.capture.load_model", lambda _: pytest.fail("a model is loaded"))
    [done] = toy(place, 7)
    assert done.files


def test_a_run_that_was_measured_stands_for_its_model(place, tmp_path):
    [before] = toy(place, 1)
    [done] = reproduce("23", model=before.run, data=["other.jsonl"], limit=3, out=tmp_path)
    assert done.run == before.run
    assert done.substituted[1:] == ("what the run holds (prompts.jsonl, 12 prompts) in place of gsm8k",)
    assert [file.parent for file in done.files] == [tmp_path / "figures"] * 2


def test_every_figure_is_listed_with_its_cost():
    rows = thalweg.listing("figures")
    assert [row["figure"] for row in rows] == [str(figure) for figure in FIGURES]
    assert rows[3]["models"] == "Meta-Llama-3-8B, Qwen2-7B, pythia-410m"
    assert (rows[3]["forward passes"], rows[3]["weights"]) == ("22,419 a model", "32 GB")
