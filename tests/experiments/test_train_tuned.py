"""Translators: they learn, to the same bits whether or not the training was stopped, and leave the model alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import thalweg
from families import VOCABULARY, tiny
from saved import llama, save
from thalweg.capture import identify_model, subject_of
from thalweg.errors import DataError, ModelError, RunError, UsageError
from thalweg.experiments import trained_lens
from thalweg.experiments._lens import training as module
from thalweg.lenses import LogitLens, Recipe, Training, read_tuned
from thalweg.store import open_run

QUIET = thalweg.SurveyOptions(progress=False, shard_rows=3)
ASKED = {"steps": 12, "step_tokens": 150, "options": QUIET}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(llama(max_position_embeddings=96), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    texts = [f"{row} bottles of water " * (1 + row % 3) for row in range(10)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.fixture(scope="module")
def trained(model, data, tmp_path_factory):
    return thalweg.train_tuned(model, data, out=tmp_path_factory.mktemp("runs") / "run", **ASKED)


def tensors(experiment, model):
    return read_tuned(trained_lens(experiment), identify_model(model)).tensors


def test_kl_falls_at_every_state_and_the_lens_reads_better_than_the_logit_lens(trained, model, data, tmp_path):
    losses = trained.table("training").collect()
    assert losses.height == 12 * 2
    for state in range(2):
        own = losses.filter(state=state).sort("step")["kl"].to_list()
        assert own[-1] < 0.9 * own[0]
    plain, tuned = (
        thalweg.lens(model, data, out=tmp_path / "run", tuned=one, options=QUIET).table("curves").collect()
        for one in (None, trained.run)
    )
    for state in range(2):
        before, after = (one.filter(state=state, metric="kl")["value"].item() for one in (plain, tuned))
        assert after < 0.95 * before
    ends = [one.filter(state=2, metric="loss")["value"].item() for one in (plain, tuned)]
    assert ends[0] == ends[1]


def test_it_is_saved_as_published_and_as_safetensors(trained, model):
    place = trained_lens(trained)
    assert sorted(path.name for path in place.iterdir()) == ["config.json", "params.pt", "params.safetensors"]
    config = json.loads((place / "config.json").read_text())
    assert (config["d_model"], config["num_hidden_layers"], config["bias"]) == (32, 2, True)
    assert config["lens_type"] == "linear_tuned_lens"
    pickled = torch.load(place / "params.pt", weights_only=True)
    own = tensors(trained, model)
    assert sorted(pickled) == ["0.bias", "0.weight", "1.bias", "1.weight"]
    assert all(torch.equal(pickled[name], one) for name, one in own.items())
    assert open_run(trained.run).experiments("tuned_lens")[-1].header.status == "finished"


@pytest.mark.parametrize("stop", [1, 5, 11])
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(trained, model, data, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(module, "SECONDS", 0.0)
    plain = module._Trainer.learn
    steps = []

    def stopped(self, *given):
        if len(steps) == stop:
            raise KeyboardInterrupt
        steps.append(1)
        plain(self, *given)

    monkeypatch.setattr(module._Trainer, "learn", stopped)
    with pytest.raises(KeyboardInterrupt):
        thalweg.train_tuned(model, data, out=tmp_path / "run", **ASKED)
    (left,) = open_run(tmp_path / "run").experiments("tuned_lens")
    assert left.header.status == "interrupted"
    assert left.table("training").collect().height == stop * 2
    monkeypatch.setattr(module._Trainer, "learn", plain)
    again = thalweg.train_tuned(model, data, out=tmp_path / "run", **ASKED)
    wanted, got = tensors(trained, model), tensors(again, model)
    assert all(torch.equal(got[name], one) for name, one in wanted.items())
    assert again.table("training").collect().equals(trained.table("training").collect())


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["lens/params.safetensors", "lens/params.pt", "lens/config.json", "training.parquet"])
def test_what_is_damaged_is_named_and_trained_again(trained, model, data, tmp_path, caplog, name):
    shutil.copytree(trained.run, tmp_path / "run")
    (experiment,) = open_run(tmp_path / "run").experiments("tuned_lens")
    flip(experiment.directory / name)
    if name.startswith("lens"):
        with pytest.raises(ModelError, match=rf"{Path(name).name} (is damaged|cannot be read)"):
            tensors(experiment, model)
    again = thalweg.train_tuned(model, data, out=tmp_path / "run", **ASKED)
    assert Path(name).name in caplog.text
    assert all(torch.equal(values, tensors(trained, model)[key]) for key, values in tensors(again, model).items())
    assert again.table("training").collect().equals(trained.table("training").collect())


def test_what_is_trained_is_not_trained_again(trained, model, data, monkeypatch):
    monkeypatch.setattr(module, "loaded", None)
    thalweg.train_tuned(model, data, out=trained.run, **ASKED)


def test_a_flipped_bit_of_a_snapshot_is_noticed(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.0)
    plain, steps = module._Trainer.learn, []

    def stopped(self, *given):
        if len(steps) == 2:
            raise KeyboardInterrupt
        steps.append(1)
        plain(self, *given)

    monkeypatch.setattr(module._Trainer, "learn", stopped)
    with pytest.raises(KeyboardInterrupt):
        thalweg.train_tuned(model, data, out=tmp_path / "run", **ASKED)
    flip(trained_lens(open_run(tmp_path / "run").experiments("tuned_lens")[0]) / "unfinished.safetensors")
    monkeypatch.setattr(module._Trainer, "learn", plain)
    with pytest.raises(RunError, match="does not hold what was written"):
        thalweg.train_tuned(model, data, out=tmp_path / "run", **ASKED)


def test_a_damaged_snapshot_is_said(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(module._Trainer, "learn", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        thalweg.train_tuned(model, data, out=tmp_path / "run", **ASKED)
    place = trained_lens(open_run(tmp_path / "run").experiments("tuned_lens")[0])
    place.mkdir()
    (place / "unfinished.safetensors").write_bytes(b"half")
    with pytest.raises(RunError, match="cannot be read"):
        thalweg.train_tuned(model, data, out=tmp_path / "run", **ASKED)


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"steps": 0}, "--steps"), ({"step_tokens": 0}, "--step-tokens"), ({"learning_rate": 0.0}, "--learning-rate")],
)
def test_what_cannot_be_asked_is_refused(model, data, tmp_path, asked, said):
    with pytest.raises(UsageError, match=said):
        thalweg.train_tuned(model, data, out=tmp_path / "run", **{**ASKED, **asked})


def test_data_without_text_is_refused_before_the_model_is_loaded(model, tmp_path, monkeypatch):
    (tmp_path / "empty.jsonl").write_text('{"text": ""}\n')
    monkeypatch.setattr(module, "loaded", None)
    with pytest.raises(DataError, match="at least one prompt"):
        thalweg.train_tuned(model, tmp_path / "empty.jsonl", out=tmp_path / "run", **ASKED)


def states(model, seed=0):
    """States by Hugging Face, the last of them before its norm."""
    tokens, last = torch.randint(0, VOCABULARY, (1, 9), generator=torch.Generator().manual_seed(seed)), []
    hook = model.model.layers[-1].register_forward_hook(lambda _, __, output: last.append(output[0].reshape(9, -1)))
    with torch.no_grad():
        output = model(input_ids=tokens, output_hidden_states=True)
    hook.remove()
    return [one[0] for one in output.hidden_states[:-1]] + [last[0]]


def test_the_gradient_is_that_of_the_mean_kl_by_hand():
    model = tiny("llama")
    before = [weight.clone() for weight in model.parameters()]
    own, training = states(model), Training(subject_of(model), Recipe(steps=1, clip=1e9, weight_decay=0.0))
    training.add([one[:4] for one in own], 9)
    training.add([one[4:] for one in own], 9)
    training.step()
    lens = LogitLens(subject_of(model))
    last = lens.logits(3, own[3]).detach().double().log_softmax(-1)
    for state in range(3):
        weight, bias = torch.zeros(32, 32, requires_grad=True), torch.zeros(32, requires_grad=True)
        read = lens.logits(state, own[state] + own[state] @ weight.T + bias).double().log_softmax(-1)
        loss = (last.exp() * (last - read)).sum(-1).mean()
        loss.backward()
        assert training.losses[0][state] == pytest.approx(loss.item(), rel=1e-5)
        # the first step of Nesterov's momentum from rest: rate 0.1 x (1 + 0.9) x gradient
        for name, parameter in (("weight", weight), ("bias", bias)):
            found = training.tensors[f"{state}.{name}"]
            torch.testing.assert_close(found, -0.19 * parameter.grad, rtol=1e-3, atol=1e-6)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_gradients_are_clipped_together():
    model = tiny("llama")
    training = Training(subject_of(model), Recipe(steps=1, clip=1e-3, weight_decay=0.0))
    training.add(states(model), 9)
    training.step()
    moved = torch.cat([one.flatten() for one in training.tensors.values()]).norm()
    assert moved == pytest.approx(0.19 * 1e-3, rel=1e-3)


def test_half_precision_models_have_float32_translators(tmp_path, data):
    path = save(llama(max_position_embeddings=96).bfloat16(), tmp_path / "half")
    asked = {**ASKED, "steps": 2, "options": replace(ASKED["options"], dtype="bfloat16")}
    found = thalweg.train_tuned(path, data, out=tmp_path / "run", **asked)
    assert tensors(found, path)["0.weight"].dtype == torch.float32


def test_a_state_that_is_not_finite_stops_the_training_at_once():
    model = tiny("llama")
    training, own = Training(subject_of(model), Recipe(steps=2)), [one.clone() for one in states(model)]
    own[1][2] = torch.inf
    training.add(own, 9)
    with pytest.raises(ModelError, match=r"KL at state 1 is not finite in step 1: .* --dtype float32"):
        training.step()
    assert not any(tensor.any() for tensor in training.tensors.values())


def test_several_data_sets_are_refused_before_the_model_is_loaded(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "loaded", lambda *_: pytest.fail("the model was loaded"))
    other = shutil.copy(data, tmp_path / "other.jsonl")
    with pytest.raises(UsageError, match="--train-tuned takes one model and one data set"):
        thalweg.train_tuned(model, (data, str(other)), out=tmp_path / "run", **ASKED)
