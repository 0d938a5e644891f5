"""Several processes share one model: the same rows as one process writes, written by one of them.

Tolerance: sums over processes are taken in another order, which moves a float32 by a few of its roundings; 1e-6 of what
is compared, or of 1.
"""

import os
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests import ranked

import thalweg
from saved import llama, save
from thalweg import ranks
from thalweg.errors import UsageError

TOLERANCE = 1e-6
ROUNDED = ("map",)  # to bytes


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The runs of one process."""
    folder = tmp_path_factory.mktemp("alone")
    save(llama(num_hidden_layers=3), folder / "llama")
    (folder / "texts.txt").write_text("\n".join(ranked.TEXTS) + "\n")
    with chdir(folder):
        ranked.commands()
    return folder


@pytest.fixture(scope="module")
def shared(alone, tmp_path_factory):
    """The same by two processes of torchrun, with what was printed; the second one fails in the end."""
    if not torch.distributed.is_available() or sys.platform == "win32":
        pytest.skip("gloo over localhost is tested on POSIX systems")
    folder = tmp_path_factory.mktemp("shared")
    (folder / "llama").symlink_to(alone / "llama")
    (folder / "texts.txt").symlink_to(alone / "texts.txt")
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1", "TMPDIR": str(folder)}
    how = {"cwd": folder, "env": environment, "capture_output": True, "text": True, "timeout": 240}
    return folder, subprocess.run([*started, ranked.__file__], **how, check=False)


def same(found, expected, tolerance=TOLERANCE):
    assert found.columns == expected.columns
    assert found.height == expected.height
    for column in (each for each in found.columns if each not in ROUNDED):
        mine, theirs = found[column], expected[column]
        if mine.dtype.is_float():
            own, other = mine.to_numpy().astype(float), theirs.to_numpy().astype(float)
            limit = tolerance * max(1.0, np.nanmax(np.abs(other[np.isfinite(other)]), initial=0.0))
            np.testing.assert_allclose(own, other, atol=limit, rtol=tolerance, err_msg=column)
        else:
            assert mine.equals(theirs), column


def tables(run):
    return {str(path.relative_to(run)): path for path in sorted(run.rglob("*.parquet"))}


@pytest.mark.parametrize("name", ["llama-run", "planted-run"])
def test_two_processes_write_what_one_does(alone, shared, name):
    folder, ended = shared
    expected = tables(alone / name)
    found = tables(folder / name)
    assert found.keys() == expected.keys(), ended.stderr
    for path in expected:
        averaged = len(Path(path).parts) == 3  # over two prompts, whose deviation may be small beside them
        tolerance = 1e-4 if averaged else TOLERANCE
        same(pl.read_parquet(found[path]), pl.read_parquet(expected[path]), tolerance)
    mine, theirs = (thalweg.open_run(where / name) for where in (folder, alone))
    assert mine.header.models == theirs.header.models
    assert mine.session.hardware["processes"] == 2


def test_every_head_has_its_row_under_its_own_number(shared):
    heads = thalweg.open_run(shared[0] / "llama-run").heads.collect()
    assert heads.group_by("prompt", "block").agg(pl.col("head").sort())["head"].to_list() == [[0, 1, 2, 3]] * 9
    per_head = heads.filter(prompt=0, block=1)["head_write_norm"]
    assert per_head.n_unique() == 4


def test_a_model_in_memory_is_the_same_model(shared):
    given, named = (thalweg.open_run(shared[0] / name) for name in ("given-run", "llama-run"))
    assert given.header.models[0].weights == named.header.models[0].weights
    columns = ["prompt", "state", "entropy", "sink_norm"]
    same(given.layers.select(columns).collect(), named.layers.select(columns).collect())


def test_one_of_them_speaks_and_writes(shared):
    folder, ended = shared
    assert ended.stdout.count("llama-run    look at it") == 1
    assert ended.stdout.count("planted-run    ") == 4
    assert (folder / "copies-0").read_text() == ""
    copies = (folder / "copies-1").read_text().splitlines()
    assert len(copies) == 3
    assert not any(Path(copy).exists() for copy in copies)


def test_an_error_of_one_ends_all(shared):
    folder, ended = shared
    assert ended.returncode != 0
    said = [line for line in ended.stderr.splitlines() if line.startswith("thalweg: ")]
    assert any(line.startswith("thalweg: a device error at row 0: CUDA error") for line in said)
    assert "Traceback" not in ended.stderr.partition("torch/distributed/")[0]
    assert thalweg.open_run(folder / "failed-run").status != "finished"


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(ranks, "_place", (0, 2))


@pytest.mark.usefixtures("two")
def test_what_several_processes_cannot_do_is_refused(tmp_path, monkeypatch):
    model = save(llama(), tmp_path / "tiny")
    with pytest.raises(UsageError, match="mcq: expected one process; torchrun has started 2"):
        thalweg.mcq(model)
    with pytest.raises(UsageError, match="--device-map: expected without torchrun"):
        thalweg.survey(model, out=tmp_path / "run", device_map="auto")
    gpt2 = save(gpt2_model(), tmp_path / "gpt2")
    with pytest.raises(UsageError, match=r"\(gpt2\) that transformers has no tensor-parallel plan for"):
        thalweg.survey(gpt2, out=tmp_path / "run")
    uneven = save(llama(num_key_value_heads=1), tmp_path / "uneven")
    with pytest.raises(UsageError, match="4 heads and 1 key/value heads, which 2 processes cannot share evenly"):
        thalweg.survey(uneven, out=tmp_path / "run")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    with pytest.raises(UsageError, match="expected 2 processes on one machine; got 1 here"):
        thalweg.survey(model, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def gpt2_model():
    import transformers

    return transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=32, n_head=4, n_layer=2, vocab_size=258))


@pytest.mark.usefixtures("two")
def test_what_does_not_fit_ends_them_all_and_is_not_halved():
    from thalweg.engines import BatchOptions, run_shards
    from thalweg.errors import NotMeasured
    from thalweg.prompts import Prompt, Shard

    prompts = tuple(Prompt(row, (1, 2), "", "", truncated=False) for row in range(4))
    tried = []

    def measure(batch):
        tried.append(len(batch))
        raise MemoryError

    with pytest.raises(NotMeasured, match="out of memory at row 0"):
        run_shards(
            [Shard(0, 4, prompts, ())], measure=measure, finish=lambda *_: None, options=BatchOptions(token_budget=100)
        )
    assert tried == [4]
