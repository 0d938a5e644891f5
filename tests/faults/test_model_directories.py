"""Directories of models and adapters, and GGUF files, that are spoilt: a model, or a line."""

import json
import random
import shutil
import sys
import warnings
from pathlib import Path

import peft
import pytest
from tests.capture.test_gguf import write
from tests.faults.foreign import Outcomes, nobody_called, settings_of, spoilt
from tests.faults.share import some

from saved import llama, save
from thalweg.capture import identify_model, load_model, prove, subject_of

FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors")
STRANGE = ("chat_template.jinja", "special_tokens_map.json", "model.safetensors.index.json", "added_tokens.json")
MORE = (
    *(
        "attn_implementation",
        "_attn_implementation",
        "num_labels",
        "id2label",
        "layer_types",
        "rope_scaling",
        "text_config",
    ),
    *("quantization_config", "auto_map", "torch_dtype", "is_decoder", "architectures", "experts_implementation"),
)
OF_ADAPTERS = ("auto_mapping", "megatron_core", "megatron_config", "runtime_config", "corda_config", "eva_config")
CODE = "import os\nos.mkdir({!r})\nclass Model: ...\n"
SLOW = ("target_modules", "rank_pattern", "alpha_pattern", "layer_replication", "init_lora_weights")
"""Settings of adapters that take time and no more."""


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A model, an adapter of it, and a GGUF file."""
    place = tmp_path_factory.mktemp("good")
    save(llama(), place / "model")
    with warnings.catch_warnings(action="ignore"):
        adapter = peft.get_peft_model(llama(), peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
        adapter.save_pretrained(place / "adapter")
    changed(place / "adapter" / "adapter_config.json", base_model_name_or_path=str(place / "model"))
    write(place / "tiny.gguf")
    return place


def changed(file: Path, **settings):
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def spoil_model(path, seed):
    rng = random.Random(seed)
    file = path / rng.choice(FILES)
    if seed % 3 == 0:
        known = json.loads((path / "config.json").read_text())
        changed(path / "config.json", **settings_of(rng, known, MORE))
    elif seed % 3 == 1:
        file.write_bytes(spoilt(file.read_bytes(), seed // 3, end=2000))
    else:
        (path / rng.choice(STRANGE)).write_bytes(
            rng.choice((b"", b"{}", b"[]", b"junk", b"[" * 50_000, b"\xff", b"null"))
        )


def spoil_adapter(path, seed):
    rng, file = random.Random(seed), path / "adapter_config.json"
    if seed % 3:
        known = {name: value for name, value in json.loads(file.read_text()).items() if name not in SLOW}
        changed(file, **settings_of(rng, known, OF_ADAPTERS))
    else:
        file = path / rng.choice(("adapter_config.json", "adapter_model.safetensors"))
        file.write_bytes(spoilt(file.read_bytes(), seed // 3, end=500))


def loaded(path, *, proved):
    model = load_model(identify_model(str(path)))
    if proved:
        prove(subject_of(model))


@pytest.fixture
def outcomes(tmp_path, monkeypatch):
    """With a module to be imported by whoever imports what a configuration names."""
    kept = Outcomes(tmp_path / "ran")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "canary.py").write_text(CODE.format(str(kept.canary)))
    monkeypatch.syspath_prepend(tmp_path / "code")
    with nobody_called():
        yield kept
    assert "canary" not in sys.modules
    assert kept.wrong == []
    assert kept.refused


def test_spoilt_models_are_read_or_refused(good, outcomes, tmp_path):
    for seed in some(range(400)):
        path = Path(shutil.copytree(good / "model", tmp_path / "model"))
        shutil.copy(tmp_path / "code" / "canary.py", path)
        spoil_model(path, seed)
        outcomes.of(seed, lambda path=path: loaded(path, proved=True))
        shutil.rmtree(path)


def test_spoilt_adapters_are_read_or_refused(good, outcomes, tmp_path):
    for seed in some(range(200)):
        path = Path(shutil.copytree(good / "adapter", tmp_path / "adapter"))
        shutil.copy(tmp_path / "code" / "canary.py", path)
        spoil_adapter(path, seed)
        outcomes.of(seed, lambda path=path: loaded(path, proved=False))
        shutil.rmtree(path)


def test_spoilt_gguf_files_are_read_or_refused(good, outcomes, tmp_path):
    content = (good / "tiny.gguf").read_bytes()
    end = content.index(b"blk.1.ffn_down") + 100
    for seed in some(range(300)):
        path = tmp_path / "tiny.gguf"
        path.write_bytes(spoilt(content, seed, end))
        outcomes.of(seed, lambda path=path: loaded(path, proved=False))
