"""What a model's name means is decided before torch is there and without the hub."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from thalweg.errors import ModelError
from thalweg.experiments import experiments
from thalweg.experiments._options import _data
from thalweg.names import local_path

MISTYPED = """
import json, sys, time
from thalweg.cli import main
from thalweg.cli._verbs import verbs
taken = {}
more = {"table": ["profile"]}
commands = [[verb.name, "runs/nowhere", *more.get(verb.name, [])] for verb in verbs() if verb.name != "list"]
for command in [*commands, *json.loads(sys.argv[1])]:
    sys.argv, start = ["thalweg", *command], time.perf_counter()
    try:
        main()
    except SystemExit as left:
        taken[" ".join(command)] = (left.code, time.perf_counter() - start)
    assert not {"torch", "transformers", "huggingface_hub"} & set(sys.modules), command
print(json.dumps(taken))
"""


OTHER_PATHS = [
    *(
        [verb, "--data", "runs/nowhere.jsonl"]
        for verb in ["survey", "attribute", "ablate", "clip", "lens", "contrast", "probe"]
    ),
    ["checkpoints", "org/model", "--data", "./runs/nowhere"],
    ["checkpoints", "--checkpoint-dir", "runs/nowhere"],
    ["survey", "--data", "gsm8k", "--data", "runs/nowhere.txt"],
    *(["probe", "--data", "sst2", option, "runs/nowhere.tsv"] for option in ("--validation", "--test")),
    *([verb, "--tuned", "runs/nowhere"] for verb in ("lens", "mcq")),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "runs" / "pythia").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["gpt2", "org/model", "two words", "/".join(["a" * 5000, "b"])])
def test_what_is_not_written_like_a_path_is_a_hub_id(name):
    assert local_path(name) is None


@pytest.mark.parametrize("name", ["runs/pythia", "./runs", "runs", "runs/../runs/pythia"])
def test_what_is_there_is_a_path(here, name):
    assert local_path(name).resolve() == (here / name).resolve()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./nowhere", "there is no directory ./nowhere. Give a directory with config.json, or a hub id."),
        ("/nowhere", "there is no directory /nowhere."),
        ("~nobody/model", "there is no directory ~nobody/model."),
        ("one/two/three", "there is no directory one/two/three."),
        ("runs/nowhere", "there is no directory runs/nowhere (runs is a folder here, so that the hub is not asked)."),
        ("runs/pythai", "Did you mean runs/pythia?"),
        *((f"model{ending}", f"there is no file model{ending}.") for ending in (".gguf", ".SAFETENSORS", ".bin")),
        *((f"org/model{ending}", f"there is no file org/model{ending}.") for ending in (".pt", ".json")),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_path_that_leads_nowhere_is_one_line(name, said):
    with pytest.raises(ModelError) as caught:
        local_path(name)
    assert said in str(caught.value)


@pytest.mark.usefixtures("here")
def test_a_mistyped_path_is_answered_at_once_by_every_verb():
    """In a process of its own, since torch is loaded in this one; the hub that it would ask does not answer."""
    done = subprocess.run(
        [sys.executable, "-c", MISTYPED, json.dumps(OTHER_PATHS)],
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout)
    verbs = {known.verb for known in experiments()} | {"report", "figures", "advise", "verify"}
    assert taken.keys() >= {f"{verb} runs/nowhere" for verb in verbs}
    assert all(code == 2 and seconds < 2 for code, seconds in taken.values()), taken
    assert sum("runs/nowhere" in line for line in done.stderr.splitlines()) == len(taken)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["gsm8k", "org/name", "bundled"])
def test_a_short_name_with_a_folder_beside_it_is_no_path(name):
    Path("gsm8k").mkdir()
    _data(name)


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch):
    from thalweg.capture import _hub, identify_model

    monkeypatch.setattr(_hub, "PATIENCE", 0.1)
    monkeypatch.setattr(_hub.HfApi, "model_info", lambda *_, **__: time.sleep(20))
    start = time.perf_counter()
    with pytest.raises(ModelError, match=r"the hub cannot be reached and org/model .* was taken for a hub id"):
        identify_model("org/model")
    assert time.perf_counter() - start < 10
