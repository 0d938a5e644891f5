"""Models on the hub, from a stand-in for it on this machine: found, known by their commit and blobs, or refused."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hub_stub import COMMIT, hub
from saved import llama, save
from thalweg.capture import identify_model
from thalweg.store import open_run

COMMANDS = """
import contextlib, io, json, sys
from thalweg.cli import main
for argv in json.loads(sys.stdin.read()):
    sys.argv, out, err, code = ["thalweg", *argv], io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as left:
            code = left.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@dataclass(frozen=True)
class Seen:
    """What the commands of one process said, what the hub was asked, and where the runs are."""

    said: dict[str, tuple[int, str, str]]
    asked: list[str]
    runs: Path

    def complaint(self, name: str) -> str:
        code, out, err = self.said[name]
        assert (code, out) == (2, ""), self.said[name]
        [line] = err.splitlines()
        return line

    def model(self, name: str):
        assert self.said[name][0] == 0, self.said[name]
        return open_run(self.runs / name).header.models[0]


def go(commands, folder, endpoint, *, verb="survey", **environment):
    """Run commands of one verb in one new process, each into a run of its name."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
    settings = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "cache"),
        "NO_PROXY": "127.0.0.1",
        "HF_HUB_DISABLE_XET": "1",
    }
    data = folder / "lines.txt"
    data.write_text("a line of more than ten bytes\nand another\n")
    argvs = [
        [verb, *rest, "--data", str(data), "--out", str(folder / "runs" / name)] for name, rest in commands.items()
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        input=json.dumps(argvs),
        env={**keep, **settings, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    return dict(zip(commands, said, strict=True))


ONLINE = {
    "whole": ["org/whole"],
    "sharded": ["org/sharded"],
    "gated": ["org/gated"],
    "nothing": ["org/nothing"],
    "no revision": ["org/whole", "--revision", "step7"],
    "pickled": ["org/pickled"],
    "pickled, main": ["org/pickled", "--revision", "main"],
    "trusted": ["org/pickled", "--allow-pickle"],
    "remote": ["org/remote"],
}
OFFLINE = {
    "whole": ["org/whole"],
    "sharded": ["org/sharded"],
    "never": ["org/never"],
    "other revision": ["org/whole", "--revision", "step7"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Repositories as directories."""
    folder = tmp_path_factory.mktemp("hub")
    save(llama(), folder / "whole")
    save(llama(), folder / "sharded", max_shard_size="20KB")
    for name in ("pickled", "remote"):
        shutil.copytree(folder / "whole", folder / name)
    weights = folder / "pickled" / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    configuration = folder / "remote" / "config.json"
    own = {"model_type": "mine", "auto_map": {"AutoConfig": "configuration_mine.Mine"}}
    configuration.write_text(json.dumps(json.loads(configuration.read_text()) | own))
    (folder / "remote" / "configuration_mine.py").write_text("raise SystemExit('it ran')")
    return folder


@pytest.fixture(scope="module")
def online(folder):
    names = ("whole", "sharded", "pickled", "remote")
    with hub({"org/gated": "GatedRepo", **{f"org/{name}": folder / name for name in names}}) as served:
        said = go(ONLINE, folder, served.endpoint)
    return Seen(said, served.asked, folder / "runs")


@pytest.fixture(scope="module")
def offline(online, folder):
    assert online.said
    with hub({}) as served:
        said = go(OFFLINE, folder, served.endpoint, HF_HUB_OFFLINE="1")
    return Seen(said, served.asked, folder / "runs")


def test_a_model_is_known_by_its_commit_and_by_its_tensors_as_the_same_directory_is(online, folder):
    found = online.model("whole")
    assert (found.name, found.revision, found.commit) == ("org/whole", "main", COMMIT)
    digest = hashlib.sha256((folder / "whole" / "model.safetensors").read_bytes()).hexdigest()
    assert found.files == f"blob:{digest}"
    assert found.weights == identify_model(str(folder / "whole")).weights


def test_a_model_in_shards_is_known_by_all_of_them(online):
    found = online.model("sharded")
    assert found.commit == COMMIT
    assert found.files.startswith("blobs:")
    assert found.weights == online.model("whole").weights
    assert open_run(online.runs / "sharded").prompts.collect().height == 2


def test_every_file_is_of_the_same_commit(online):
    files = [line for line in online.asked if "/resolve/" in line and "org/whole" in line and "step7" not in line]
    assert files
    assert all(f"/resolve/{COMMIT}/" in line for line in files)


def test_the_same_run_goes_on_without_the_hub(offline):
    for name in ("whole", "sharded"):
        assert offline.said[name][::2] == (0, ""), offline.said[name]
    assert offline.asked == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gated", "org/gated is gated: ask for access on its hub page, then run `hf auth login` or set HF_TOKEN."),
        ("nothing", "org/nothing is neither a directory nor a model on the hub."),
        ("no revision", "org/whole has no revision 'step7'. See its branches and tags on the hub."),
        ("pickled", "org/pickled has no safetensors weights. Pass --allow-pickle"),
        ("pickled, main", "org/pickled has no safetensors weights. Pass --allow-pickle"),
        ("remote", "org/remote comes with its own code, which is not run. Pass --trust-remote-code"),
    ],
)
def test_what_the_hub_refuses_is_one_line(online, name, words):
    assert online.complaint(name).startswith(f"thalweg: {words}")


def test_pickled_weights_are_read_when_they_are_trusted(online):
    one, other = (open_run(online.runs / name).layers.drop("model").collect() for name in ("whole", "trusted"))
    assert online.model("trusted").files != online.model("whole").files
    assert online.model("trusted").weights == online.model("whole").weights
    assert one.equals(other)


def test_nobody_is_asked_to_convert_weights(online):
    """transformers would look for an earlier conversion, then have a service open a pull request at the model's."""
    assert not [
        line for line in online.asked if line.startswith("POST") or "/commits/" in line or "discussions" in line
    ]


@pytest.mark.parametrize("name", ["never", "other revision"])
def test_a_hub_out_of_reach_is_one_line(offline, name):
    model, revision = OFFLINE[name][0], "step7" if name == "other revision" else "main"
    assert offline.complaint(name).startswith(
        f"thalweg: the hub cannot be reached and {model} ({revision}) is not in the local cache."
    )


def test_another_state_of_the_weights_is_another_run(online, folder, tmp_path):
    """The index of the shards is the same; the shards are not."""
    moved = tmp_path / "moved"
    shutil.copytree(folder / "sharded", moved)
    shard = sorted(moved.glob("model-*.safetensors"))[-1]
    save_file({name: weight + 1 for name, weight in load_file(shard).items()}, shard, metadata={"format": "pt"})
    with hub({"org/sharded": moved}) as served:
        said = go({"sharded": ["org/sharded"]}, folder, served.endpoint, HF_HOME=str(tmp_path / "cache"))
    [line] = said["sharded"][2].splitlines()
    assert said["sharded"][0] == 2
    assert "belongs to another run; weights of org/sharded@main" in line
    assert online.model("sharded").weights in line
