"""The benchmarks do what docs/benchmarks.md says of them, on tiny models: nothing here is about time."""

import json
import shutil
import subprocess
from argparse import ArgumentParser
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch
import transformers as tf
from benchmarks import PARTS, measured, subjects
from benchmarks.measured import Asked, Seconds, ratio_cells, rounds
from benchmarks.peers import environments
from benchmarks.peers.__main__ import costs, numbers
from benchmarks.peers.work import worked

from saved import llama, save
from thalweg.reference import byte_tokenizer

ASKED = Asked(runs=1, problems=2, texts=1, prompts=16, model=None)
SIZES = {"BLOCKS": 2, "WIDTH": 32, "HEADS": 2, "MODELS": 1, "QUESTIONS": 1, "MEASURED_BEFORE": 2}
TEXTS = ["one text", "and a longer one"]


@pytest.fixture
def tiny(monkeypatch):
    """A part of the benchmark over tiny models."""

    def part(name):
        found = import_module(f"benchmarks.{name}")
        make = partial(llama, max_position_embeddings=2048)
        models = {"random_model": lambda _=None: make(), "small_model": lambda: make().train()}
        for known, other in {**models, **SIZES}.items():
            if hasattr(found, known):
                monkeypatch.setattr(found, known, other)
        return found

    monkeypatch.delenv("THALWEG_TEST_DATA", raising=False)
    monkeypatch.setattr(subjects, "random_model", partial(llama, max_position_embeddings=2048))
    monkeypatch.setattr(subjects, "LENGTH", 64)
    return part


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", sorted(set(PARTS) - {"memory", "page"}))
def test_a_part_fills_its_tables(name, tiny, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where no real model is
    for table in tiny(name).tables(ASKED):
        assert table.rows
        for row in table.rows:
            assert len(row) == len(table.columns)
            assert all(isinstance(cell, str) for cell in row)


def test_the_page_is_opened(tiny):
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    [table] = tiny("page").tables(ASKED)
    assert [row[0] for row in table.rows] == ["size", "opened at #depth", "opened at #heads"]


def test_the_usual_way_needs_more_memory(tiny):
    usual, ours = (tiny("memory").above_weights(way, 2048) for way in ("usual way", "survey"))
    maps = 2 * 4 * 2048**2 * 4  # two blocks of four heads in float32
    assert usual > maps > ours


def test_ratios_are_of_one_round():
    done = []
    taken = rounds({"one": lambda: done.append("one"), "other": lambda: done.append("other")}, 2)
    assert done == ["one", "other", "one", "other", "other", "one"]
    assert {len(each) for each in taken.values()} == {2}
    one, other = [Seconds(2.0, 3.0), Seconds(8.0, 8.0)], [Seconds(1.0, 1.0), Seconds(2.0, 1.0)]
    assert ratio_cells(one, other) == ["3.00", "2.00-4.00", "5.50", "3.00-8.00"]


@pytest.mark.parametrize("module", ["benchmarks", "benchmarks.peers"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--runs", "0"), "argument --runs: expected a whole number of at least 1; got 0"),
        (("--problems", "many"), "argument --problems: expected a whole number of at least 1; got many"),
        (("--model", "no/such/model"), "no/such/model"),
    ],
)
def test_what_cannot_be_measured_is_a_line(module, given, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [module, *given])
    with pytest.raises(SystemExit) as left:
        import_module(f"{module}.__main__").main()
    assert left.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_command_tells_what_is_not_as_by_default():
    parser = ArgumentParser()
    for name, usual in (("runs", 5), ("texts", 8), ("only", ("a", "b"))):
        parser.add_argument(f"--{name}", default=usual)
    given = {"runs": 2, "texts": 8, "only": "a"}
    assert measured.command("benchmarks", parser, given, *given) == "python -m benchmarks --runs 2 --only a"


def test_what_is_kept_is_what_was_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    measured.write_result("one", [measured.Table("title", ("a", "b"), [("1", "2")])], threads=1)
    known = json.loads((tmp_path / "one.json").read_text())
    assert known.pop("tables") == [{"title": "title", "columns": ["a", "b"], "rows": [["1", "2"]]}]
    assert known["threads"] == 1
    assert {*known} == {"threads", "machine", "date"}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = save(llama(max_position_embeddings=256), tmp_path_factory.mktemp("peers") / "model")
    prompts = [byte_tokenizer()(text)["input_ids"] for text in TEXTS]
    batches = [[ids] for ids in prompts]
    return {"model": folder, "runs": 1, "tasks": [{"texts": TEXTS, "prompts": prompts, "batches": batches}]}


def test_transformers_alone_finds_our_numbers(job):
    ours, eager = (worked({**job, "way": way}) for way in ("thalweg", "transformers, eager"))
    mine, its = ours["tasks"][0], eager["tasks"][0]
    torch.testing.assert_close(mine["sinks"], its["sinks"], rtol=0, atol=1e-6)
    torch.testing.assert_close(mine["entropies"][:-1], its["entropies"][:-1], rtol=0, atol=1e-6)
    assert abs(mine["entropies"][-1] - its["entropies"][-1]) > 1e-4  # behind the final norm
    done = {"thalweg": ours, "transformers, eager": eager, "absent": {"versions": "cannot be installed", "tasks": None}}
    rows = costs("two texts", 0, done).rows
    assert [row[0] for row in rows] == list(done)
    assert rows[-1][1] == "see below"
    table = numbers("two texts", 0, done)
    assert [row[0] for row in table.rows] == ["thalweg", "transformers, eager"]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert float(table.rows[1][2]) <= 1e-6 < 1e-4 < float(table.rows[1][6])


def test_attention_is_as_before_after_the_usual_way():
    from benchmarks.peers.ways import eager

    model = llama()
    before = model.config._attn_implementation
    eager(model, [[1, 2, 3]])
    assert model.config._attn_implementation == before != "eager"


def test_what_cannot_be_installed_says_why_and_is_tried_again(monkeypatch, tmp_path):
    def refused(command, **_):
        tried.append(command)
        said = "WARNING: one\nERROR: No matching distribution found for nnsight\nERROR: two\n"
        return subprocess.CompletedProcess(command, 1, "", said)

    tried = []
    monkeypatch.setattr(environments.venv, "create", lambda place, **_: Path(place).mkdir(parents=True))
    monkeypatch.setattr(environments.subprocess, "run", refused)
    for _ in range(2):
        with pytest.raises(environments.Missing, match="No matching distribution found for nnsight"):
            environments.interpreter("nnsight", tmp_path)
    assert len(tried) == 2
    monkeypatch.setattr(environments.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0))
    python = environments.interpreter("nnsight", tmp_path)
    monkeypatch.setattr(environments.subprocess, "run", refused)
    assert environments.interpreter("nnsight", tmp_path) == python
    assert len(tried) == 2


def test_the_model_is_stored_once_for_all(monkeypatch, tmp_path):
    model = llama()
    given = subjects.Measured("tiny", model, byte_tokenizer())
    place = environments.stored(given, tmp_path)
    monkeypatch.setattr(type(model), "save_pretrained", lambda *_: pytest.fail("stored again"))
    assert environments.stored(given, tmp_path) == place
    read = tf.AutoModelForCausalLM.from_pretrained(place)
    torch.testing.assert_close(read.state_dict(), model.state_dict(), rtol=0, atol=0)
