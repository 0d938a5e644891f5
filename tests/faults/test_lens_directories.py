"""Directories of tuned lenses that are spoilt: a lens, or a line."""

import io
import json
import pickle
import random

import pytest
import torch
from safetensors.torch import save as to_safetensors
from tests.faults.foreign import Canary, Outcomes, nobody_called, settings_of, spoilt
from tests.faults.share import some
from tests.lenses.test_tuned_files import NO_LENS, configuration, tensors

from saved import llama, save
from thalweg.capture import identify_model
from thalweg.lenses import choose_lens

KINDS = ("params.pt", "params.safetensors")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return identify_model(save(llama(), tmp_path_factory.mktemp("models") / "tiny"))


def pickled(held):
    written = io.BytesIO()
    torch.save(held, written)
    return written.getvalue()


def crafted(rng, canary):
    """Pickles, in and out of torch's archives, with what runs where a tensor is expected."""
    evil = Canary(canary)
    held = rng.choice((evil, {**tensors(), "0.weight": evil}, [evil], {evil: 1}, {**tensors(), "x": {"y": evil}}))
    return pickled(held) if rng.random() < 0.5 else pickle.dumps(held, protocol=rng.randrange(6))


def odd(rng):
    kind = rng.choice([name for name in NO_LENS if name != "quantized"])
    return pickled({**tensors(), f"{rng.randrange(2)}.weight": NO_LENS[kind](tensors()["0.weight"])})


def write(directory, seed, canary):
    rng, file = random.Random(seed), KINDS[seed % 2]
    directory.mkdir()
    config, content = configuration(), pickled(tensors()) if file == "params.pt" else to_safetensors(tensors())
    match seed % 5:
        case 0:
            content = spoilt(content, seed // 5, end=3000)
        case 1:
            config |= settings_of(rng, config, ("checksums", "base_model_weights", "more"))
        case 2:
            file, content = "params.pt", crafted(rng, canary)
        case 3:
            file, content = "params.pt", odd(rng)
        case _:
            (directory / "params.safetensors").write_bytes(spoilt(to_safetensors(tensors()), seed // 5, end=900))
    (directory / file).write_bytes(content)
    said = json.dumps(config).encode()
    (directory / "config.json").write_bytes(spoilt(said, seed) if seed % 7 == 0 else said)


@pytest.mark.filterwarnings("ignore")
def test_spoilt_lenses_are_read_or_refused(model, tmp_path):
    outcomes = Outcomes(tmp_path / "canary")
    with nobody_called():
        for seed in some(range(500)):
            write(tmp_path / str(seed), seed, outcomes.canary)
            outcomes.of(seed, lambda seed=seed: choose_lens(tmp_path / str(seed), model))
    assert outcomes.wrong == []
    assert outcomes.refused
