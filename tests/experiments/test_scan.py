"""A first token's course is what the model does with that token alone, and what a survey measures at position 0."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers as tf
from tests.families import tiny
from tests.saved import llama, save
from transformers.models.llama.modeling_llama import LlamaModel

import thalweg
from thalweg.averages import birth_and_death
from thalweg.capture import plain_subject, proved_states
from thalweg.errors import ModelError, ProofError, UsageError
from thalweg.experiments._scan.measure import _followed
from thalweg.reference import Plant, byte_tokenizer, planted_llama

QUIET = {"progress": False}
BEGIN = 256
ANONYMOUS = """
import sys, threading, time
import thalweg, transformers, torch, accelerate

def held():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) << 10

model, out = sys.argv[1:]
thalweg.scan(model.replace("large", "small"), out=out + "0", progress=False)  # what is imported late
before, most, running = held(), 0, True
def watch():
    global most
    while running:
        most = max(most, held())
        time.sleep(0.002)
watcher = threading.Thread(target=watch)
watcher.start()
thalweg.scan(model, out=out, progress=False)
running = False
watcher.join()
print(most - before)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A row of norm 2,000 at the begin token, written by block 1 and taken away by block 2 of 4."""
    return save(planted_llama(Plant(1, 2, {3: 2000.0}, (0, 1)), blocks=4, width=32), tmp_path_factory.mktemp("m") / "m")


def by_hand(model, token):
    """Norms of the model's own states, the last before the final norm."""
    states, last = [], []
    model.model.layers[-1].register_forward_hook(lambda *seen: last.append(seen[-1]))
    with torch.no_grad():
        states = model.model(torch.tensor([[token]]), output_hidden_states=True).hidden_states
    every = [*states[:-1], last[-1][0] if isinstance(last[-1], tuple) else last[-1]]
    return [float(state.double().norm()) for state in every]


def test_the_begin_token_is_scanned_where_prompts_begin_with_one(model, tmp_path):
    found = thalweg.scan(model, out=tmp_path / "run", **QUIET)
    (row,) = found.table("tokens").collect().to_dicts()
    assert (row["id"], row["rank"], row["scanned"]) == (BEGIN, 1, 1)
    norms = found.table("norms").collect().sort("state")["norm"].to_list()
    assert norms == pytest.approx(by_hand(tf.AutoModelForCausalLM.from_pretrained(model), BEGIN), rel=1e-6)
    assert (row["birth"], row["death"], row["peak_state"]) == (2, 3, 2)
    assert row["peak_norm"] == pytest.approx(2000, rel=0.01)
    largest = found.table("coordinates").filter(state=2, rank=0).collect().row(0, named=True)
    assert (largest["dim"], abs(largest["value"])) == (3, pytest.approx(2000, rel=0.01))


def test_it_is_what_a_survey_measures_at_position_0(model, tmp_path):
    run = thalweg.survey(model, ["some text that is long enough", "more"], out=tmp_path / "run", **QUIET)
    scanned = thalweg.scan(run.path, **QUIET).table("norms").collect().sort("state")["norm"].to_list()
    for prompt in (0, 1):
        assert run.layers.filter(prompt=prompt).collect()["sink_norm"].to_list() == pytest.approx(scanned, rel=1e-5)


def test_all_tokens_are_ranked_by_the_norm_that_they_reach(model, tmp_path):
    found = thalweg.scan(model, first_tokens="all", top=5, out=tmp_path / "run", **QUIET)
    rows = found.table("tokens").collect().to_dicts()
    own = tf.AutoModelForCausalLM.from_pretrained(model)
    peaks = {token: max(by_hand(own, token)) for token in range(len(own.get_input_embeddings().weight))}
    best = sorted(peaks, key=lambda token: -peaks[token])[:5]
    assert [row["id"] for row in rows] == best
    assert [row["scanned"] for row in rows] == [len(peaks)] * 5
    assert [row["peak_norm"] for row in rows] == pytest.approx([peaks[token] for token in best], rel=1e-6)
    assert found.table("norms").collect().height == 5 * 5


def test_named_tokens_are_scanned_and_kept(model, tmp_path):
    found = thalweg.scan(model, first_tokens=["a", "bc", "<s>", "ab"], out=tmp_path / "run", **QUIET)
    wanted = byte_tokenizer()("ab", add_special_tokens=False)["input_ids"]
    assert set(found.table("tokens").collect()["id"]) == {*wanted, BEGIN}
    assert found.table("tokens").collect()["rank"].to_list() == [1, 2, 3]


def test_what_was_scanned_is_not_scanned_again(model, tmp_path, monkeypatch):
    first = thalweg.scan(model, out=tmp_path / "run", **QUIET).table("norms").collect()
    monkeypatch.setattr("thalweg.experiments._scan.measure.load_model", lambda _: pytest.fail("it is loaded again"))
    assert thalweg.scan(model, out=tmp_path / "run", **QUIET).table("norms").collect().equals(first)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "opt", "bloom", "falcon", "gemma3_text"])
def test_families(family):
    own = tiny(family)
    with torch.no_grad():
        states = own.get_decoder()(torch.tensor([[5], [9]]), output_hidden_states=True).hidden_states
    found = _followed(plain_subject(own), [5, 9])
    order = np.argsort(found.ids)
    for index, state in enumerate(states[:-1]):
        assert found.norms[order, index] == pytest.approx(state[:, 0].double().norm(dim=-1).numpy(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_that_are_not_the_models_own_are_refused(dtype):
    subject = plain_subject(tiny("llama").to(dtype))
    assert len(proved_states(subject, torch.tensor([[5]]))) == len(subject.parts.blocks) + 1
    for wrong in ({"blocks": subject.parts.blocks[:-1]}, {"final_norm": None}):
        with pytest.raises(ProofError, match="are not its own states"):
            proved_states(replace(subject, parts=replace(subject.parts, **wrong)), torch.tensor([[5]]))


def test_one_token_takes_one_pass(model, tmp_path, monkeypatch):
    passes, forward = [], LlamaModel.forward
    monkeypatch.setattr(LlamaModel, "forward", lambda *given, **more: passes.append(1) or forward(*given, **more))
    thalweg.scan(model, out=tmp_path / "run", **QUIET)
    assert len(passes) == 1


def test_a_weight_that_is_not_finite_is_told(model, tmp_path):
    own = tf.AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        own.model.layers[2].mlp.down_proj.weight[0, 0] = torch.nan
    path = save(own, tmp_path / "model")
    for asked in ("auto", "all"):
        with pytest.raises(ModelError, match=r"state 3 is not finite.*thalweg verify"):
            thalweg.scan(path, first_tokens=asked, top=3, out=tmp_path / asked, **QUIET)


@pytest.mark.parametrize(
    ("norms", "birth", "death"),
    [
        ([1, 2, 200, 190, 3], 2, 4),
        ([5, 4, 3], None, None),
        ([1, 2, 4, 400], 3, None),
        ([0, 1, 10, 1], 2, 3),  # from nothing there is no factor
        ([1, math.nan, 3, 6, 1], 3, 4),
    ],
)
def test_birth_and_death(norms, birth, death):
    found = birth_and_death(np.array(norms, dtype=float))
    assert (found["birth"], found["death"]) == (birth, death)
    if birth is not None:
        assert found["rise"] == pytest.approx(norms[birth] / norms[birth - 1])
    if death is not None:
        assert found["fall"] == pytest.approx(norms[death] / norms[death - 1])


def test_a_sharded_checkpoint_is_read_block_by_block(tmp_path):
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "num_key_value_heads": 8}
    for name, blocks in (("small", 1), ("large", 16)):
        save(llama(**sizes, num_hidden_layers=blocks), tmp_path / name, max_shard_size="40MB")
    size = sum(file.stat().st_size for file in (tmp_path / "large").glob("*.safetensors"))
    code = [sys.executable, "-c", ANONYMOUS, str(tmp_path / "large"), str(tmp_path / "run")]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert len([*(tmp_path / "large").glob("*.safetensors")]) > 3
    assert int(done.stdout) < size / 2


@pytest.mark.parametrize(
    ("asked", "said"), [({"first_tokens": [""]}, "'' gives no token"), ({"top": 0}, "1 or more; got 0")]
)
def test_what_cannot_be_scanned_is_one_line(model, tmp_path, asked, said):
    with pytest.raises(UsageError, match=said) as error:
        thalweg.scan(model, out=tmp_path / "run", **asked, **QUIET)
    assert "\n" not in str(error.value)
