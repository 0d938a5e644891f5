"""The worked example of the docs, installed and registered: one file gives what all others have."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.gallery import alone
from tests.painted import assert_every_section_is_painted
from transformers import AutoModelForCausalLM, AutoTokenizer

import thalweg
from saved import llama, save
from thalweg.experiments import experiments, register

EXAMPLE = Path(__file__).parents[2] / "examples" / "row_spread"
METADATA = {
    "METADATA": "Metadata-Version: 2.1\nName: row-spread\nVersion: 1\n",
    "entry_points.txt": "[thalweg.experiments]\nspread = row_spread:EXPERIMENT\nlost = no_such_package:EXPERIMENT\n",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    save(llama(num_hidden_layers=3), place / "model")
    texts = [f"{row} green bottles, " * (1 + row % 3) for row in range(6)]
    (place / "prompts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    shutil.copytree(EXAMPLE, place / "installed" / "row_spread")
    (place / "installed" / "row_spread-1.dist-info").mkdir()
    for name, text in METADATA.items():
        (place / "installed" / "row_spread-1.dist-info" / name).write_text(text)
    return place


def typed(place, *argv):
    started = "import sys; sys.argv[0] = 'thalweg'; from thalweg.cli import main; main()"
    ours = os.pathsep.join(map(str, (place / "installed", Path(thalweg.__file__).parents[1])))
    env = os.environ | {"PYTHONPATH": ours, "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-c", started, *map(str, argv)], env=env, cwd=place, capture_output=True, encoding="utf-8"
    )


def by_hand(place):
    """The mean over prompts of the standard deviation of the rows' log norms, from transformers alone."""
    model, tokenizer = (kind.from_pretrained(place / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    states = []
    hooks = [model.model.layers[0].register_forward_pre_hook(lambda _, given: states.append(given[0]))]
    hooks += [block.register_forward_hook(lambda *given: states.append(given[2])) for block in model.model.layers]
    spreads = []
    for line in (place / "prompts.jsonl").read_text().splitlines():
        states.clear()
        with torch.no_grad():
            model(**tokenizer(json.loads(line)["text"], return_tensors="pt"))
        spreads.append([np.log(np.linalg.norm(state[0].double().numpy(), axis=1)).std() for state in states])
    return np.mean(spreads, axis=0)


def test_a_package_gives_a_verb_with_help_json_resume_figure_and_section(place):
    asked = ("spread", "model", "--data", "prompts.jsonl", "--out", "run")
    first = typed(place, *asked)
    assert first.returncode == 0, first.stderr
    assert "model on prompts.jsonl: spread of row norms" in first.stdout
    assert "Rows differ most at state" in first.stdout
    parts = {path: path.stat().st_mtime_ns for path in (place / "run" / "spread").glob("**/*.prompts.parquet")}
    answers = json.loads(typed(place, *asked, "--json").stdout)
    # float32 states, the same kernels on batches of another shape
    np.testing.assert_allclose([row["spread"] for row in answers["means"]], by_hand(place), rtol=1e-5)
    assert parts
    assert parts == {path: path.stat().st_mtime_ns for path in parts}, "measured again"
    helped = typed(place, "spread", "--help").stdout
    assert "Say how unequal the tokens of every state are" in helped
    assert "--batch-tokens" in helped
    assert typed(place, "figures", "run").returncode == 0
    assert list((place / "run" / "figures").glob("spread_*.png"))
    assert typed(place, "report", "run").returncode == 0
    page = (place / "run" / "report.html").read_text()
    assert "Spread of norms" in page
    assert "Rows differ most at state" in page


def test_a_package_that_is_broken_is_named_and_left_out(place):
    listed = typed(place, "--help")
    assert "spread" in listed.stdout
    assert listed.stderr == (
        "thalweg: the experiment lost (no_such_package:EXPERIMENT) cannot be loaded: ModuleNotFoundError: No module "
        "named 'no_such_package'. Repair its package, or uninstall it.\n"
    )


def test_one_that_is_registered_is_a_function_of_thalweg_and_is_painted(place, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    import row_spread

    with alone(row_spread.EXPERIMENT):
        assert [known.verb for known in experiments()] == ["spread"]
        quiet = thalweg.SurveyOptions(progress=False)
        found = thalweg.spread(place / "model", place / "prompts.jsonl", out=place / "registered", options=quiet)
        np.testing.assert_allclose(found.table("means").collect()["spread"], by_hand(place), rtol=1e-5)
        assert assert_every_section_is_painted(thalweg.open_run(place / "registered")) == {"spread": 1}
        with pytest.raises(ValueError, match=r"spread \(spread\) is there already"):
            register(row_spread.EXPERIMENT)


def test_the_example_is_one_short_file():
    (file,) = EXAMPLE.glob("*.py")
    assert len(file.read_text().splitlines()) <= 105
