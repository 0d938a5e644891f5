"""Weights are known by their tensors: in memory, in a directory, in the hub's cache, whichever way they are cut."""

import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from families import FAMILIES, HYBRIDS, tiny
from saved import llama, save
from thalweg.capture import _identity, _kept, identify_model, identity_of_configuration, identity_of_model
from thalweg.capture._identity import class_of, identity_of_files, weights_in_directory
from thalweg.options import LoadOptions
from thalweg.reference import byte_tokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A user's cache of the test's own."""
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "good"
    save(llama(), path)
    return path


@pytest.fixture
def good(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "model"))


def weights(path, **options):
    return identify_model(str(path), LoadOptions(**options)).weights


def changed(path, change):
    """The weights of ``path`` after a change, written back."""
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_a_model_in_memory_its_directory_and_what_is_loaded_from_it_are_one(family, tmp_path):
    model, tokenizer = tiny(family), byte_tokenizer()
    ours = identity_of_model(model), identity_of_configuration(model.config, tokenizer)
    save(model, tmp_path, tokenizer=False)
    loaded = tf.AutoModelForCausalLM.from_pretrained(tmp_path)
    stored = identity_of_files(weights_in_directory(tmp_path), class_of(loaded.config))
    assert stored == identity_of_model(loaded) == ours[0]
    configurations = loaded.config, tf.AutoConfig.from_pretrained(tmp_path)
    assert {identity_of_configuration(each, tokenizer) for each in configurations} == {ours[1]}


def test_a_tokenizer_in_use_and_the_saved_one_are_one(tmp_path):
    model, tokenizer = llama(), byte_tokenizer()
    tokenizer("another", truncation=True, max_length=4)
    save(model, tmp_path)
    found = identify_model(str(tmp_path))
    assert found.configuration == identity_of_configuration(model.config, tokenizer)
    assert found.weights == identity_of_model(model)


def test_a_tied_weight_counts_once_whether_a_file_holds_it_or_not(tmp_path):
    model = llama(tie_word_embeddings=True)
    save(model, tmp_path)
    once = weights(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    changed(tmp_path, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}))
    assert weights(tmp_path) == once == identity_of_model(model)


def test_one_place_in_memory_read_in_two_ways_is_two_contents(monkeypatch):
    digest, read = _identity._digest, list[str]()
    monkeypatch.setattr(_identity, "_digest", lambda tensor: read.append("") or digest(tensor))
    square = torch.arange(16.0).reshape(4, 4)
    views = {
        "first": square,
        "same": square.detach(),
        "turned": square.mT,
        "part": square[:2],
        "bits": square.view(torch.int32),
    }
    apart = {name: view.clone(memory_format=torch.contiguous_format) for name, view in views.items()}
    assert identity_of_model(SimpleNamespace(state_dict=lambda: views)) == identity_of_model(
        SimpleNamespace(state_dict=lambda: apart)
    )
    assert len(read) == len(views) - 1 + len(apart)


def test_shards_and_a_file_without_the_prefix_are_the_same_weights(good, tmp_path):
    whole = weights(good)
    save(llama(), tmp_path / "shards", max_shard_size="20KB")
    assert len(weights_in_directory(tmp_path / "shards")) > 1
    assert weights(tmp_path / "shards") == whole

    def bare(tensors):
        for name in [name for name in tensors if name.startswith("model.")]:
            tensors[name.removeprefix("model.")] = tensors.pop(name)
        tensors["layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)

    changed(good, bare)
    assert weights(good) == whole


def bent(tensors):
    tensors["model.norm.weight"][3] += 1e-3


def renamed(tensors):
    tensors["model.norm.bias"] = tensors.pop("model.norm.weight")


def cut(tensors):
    tensors["model.norm.weight"] = tensors["model.norm.weight"].reshape(1, -1)


def narrowed(tensors):
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.bfloat16)


def swapped(tensors):
    one, other = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"
    tensors[one], tensors[other] = tensors[other].clone(), tensors[one].clone()


@pytest.mark.parametrize("change", [bent, renamed, cut, narrowed, swapped])
def test_any_change_of_a_tensor_is_another_identity(change, good):
    before = weights(good)
    changed(good, change)
    assert weights(good) != before


def test_every_byte_counts(good):
    tensors = load_file(good / "model.safetensors")
    tensors["model.large"] = torch.zeros(2**20 + 1)
    found = set()
    for place in (0, 2**19 + 12_345, 2**20):
        tensors["model.large"][place] += 1
        save_file(tensors, good / "model.safetensors", metadata={"format": "pt"})
        found.add(identity_of_files([good / "model.safetensors"], tf.LlamaForCausalLM))
    assert len(found) == 3


def test_what_was_hashed_is_not_hashed_again_until_the_file_changes(good, cache, monkeypatch):
    first = weights(good)
    [entry] = cache.iterdir()
    assert entry.read_text() == f"{first}\n"
    hashed = []
    own = identity_of_files
    monkeypatch.setattr(
        "thalweg.capture._identity.identity_of_files", lambda *given: hashed.append(given) or own(*given)
    )
    assert weights(good) == first
    assert not hashed
    changed(good, bent)
    assert weights(good) != first
    assert len(hashed) == 1
    assert {file.name for file in cache.iterdir()} > {entry.name}


@pytest.mark.parametrize("damage", [b"", b"sha256:123\n", b"\xff\xfe", b"sha256:" + b"0" * 64])
def test_a_damaged_cache_is_ignored(damage, good, cache):
    first = weights(good)
    [entry] = cache.iterdir()
    entry.write_bytes(damage)
    assert weights(good) == first
    assert entry.read_text() == f"{first}\n"


def test_a_cache_that_cannot_be_written_is_done_without(good, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "file"))
    assert weights(good) == weights(good)


def test_a_file_of_the_hubs_cache_is_kept_by_its_content(good, tmp_path):
    digest = hashlib.sha256((good / "model.safetensors").read_bytes()).hexdigest()
    snapshot, blobs = tmp_path / "snapshots" / "0123", tmp_path / "blobs"
    shutil.copytree(good, snapshot)
    blobs.mkdir()
    shutil.move(snapshot / "model.safetensors", blobs / digest)
    (snapshot / "model.safetensors").symlink_to(blobs / digest)
    assert _kept.name_of(snapshot / "model.safetensors") == digest
    assert weights(snapshot) == weights(good)


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {"HOME": "/home/me"}, "/home/me/.cache/thalweg"),
        ("linux", {"XDG_CACHE_HOME": "/fast"}, "/fast/thalweg"),
        ("darwin", {"HOME": "/Users/me"}, "/Users/me/Library/Caches/thalweg"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/thalweg"),
        ("linux", {"THALWEG_CACHE": "/mine"}, "/mine"),
    ],
)
def test_the_cache_lies_where_the_system_has_its_caches(platform, variables, folder, monkeypatch):
    for variable in ("THALWEG_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr("thalweg.capture._kept.sys.platform", platform)
    assert _kept.cache_directory() == Path(folder)
