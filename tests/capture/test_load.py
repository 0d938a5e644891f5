"""What is measured is what was asked for; everything else is refused in one line that says what to do."""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from families import FAMILIES, HYBRIDS, tiny
from saved import SIZES, configured, llama, save
from thalweg.capture import identify_model, load_model, prove, subject_of
from thalweg.errors import ModelError
from thalweg.options import LoadOptions
from thalweg.reference import byte_tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A good model, to be copied and spoilt."""
    path = tmp_path_factory.mktemp("models") / "good"
    save(llama(), path)
    return path


@pytest.fixture
def good(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "model"))


def refused(path, **options):
    """The line that refuses a model, whether when it is found or when it is loaded."""
    with pytest.raises(ModelError) as caught:
        load_model(identify_model(str(path), LoadOptions(**options)))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_a_model_comes_with_all_that_a_run_needs_to_know(good):
    found = identify_model(str(good))
    assert (found.name, found.source, found.revision, found.commit) == (str(good), str(good), "local", None)
    assert (found.dtype, found.context) == ("float32", 64)
    assert found.weights.startswith("sha256:")
    model = load_model(found)
    assert not model.training
    assert model.dtype == torch.float32
    for name, weight in load_file(good / "model.safetensors").items():
        assert torch.equal(model.state_dict()[name], weight)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "float32"),
        ({"device": "cpu"}, "float32"),
        ({"device_map": "cpu"}, "float32"),
        ({"device_map": "auto"}, "float32"),
        ({"device": "mps"}, "bfloat16"),
        ({"device": "cuda:1"}, "bfloat16"),
        ({"dtype": "bfloat16"}, "bfloat16"),
    ],
)
def test_on_processors_float32_is_computed_and_elsewhere_what_was_saved(options, expected, good, monkeypatch):
    for accelerator in (torch.cuda, torch.accelerator):
        monkeypatch.setattr(accelerator, "is_available", lambda: False)
    configured(good, dtype="bfloat16")
    assert identify_model(str(good), LoadOptions(**options)).dtype == expected


@pytest.mark.parametrize("options", [{}, {"device_map": "auto"}])
def test_where_there_is_an_accelerator_it_is_what_was_saved(options, good, monkeypatch):
    for accelerator in (torch.cuda, torch.accelerator):
        monkeypatch.setattr(accelerator, "is_available", lambda: True)
    configured(good, dtype="bfloat16")
    assert identify_model(str(good), LoadOptions(**options)).dtype == "bfloat16"
    assert identify_model(str(good), LoadOptions(device="cpu")).dtype == "float32"


def test_another_dtype_is_part_of_what_was_asked_for(good):
    for dtype in ("float64", "float16"):
        found = identify_model(str(good), LoadOptions(dtype=dtype))
        assert found.dtype == dtype
        assert str(load_model(found).dtype) == f"torch.{dtype}"


KINDS = {
    "BertForMaskedLM": (lambda: tf.BertForMaskedLM(tf.BertConfig(**SIZES)), "is an encoder (BertForMaskedLM)"),
    "BertModel": (lambda: tf.BertModel(tf.BertConfig(**SIZES)), "is an encoder (BertModel)"),
    "RobertaForMaskedLM": (lambda: tf.RobertaForMaskedLM(tf.RobertaConfig(**SIZES)), "is an encoder"),
    "DistilBertForMaskedLM": (
        lambda: tf.DistilBertForMaskedLM(
            tf.DistilBertConfig(dim=32, hidden_dim=48, n_layers=1, n_heads=4, vocab_size=258)
        ),
        "(distilbert) has no causal language model",
    ),
    "T5ForConditionalGeneration": (
        lambda: tf.T5ForConditionalGeneration(
            tf.T5Config(d_model=32, d_ff=48, d_kv=8, num_layers=2, num_heads=4, vocab_size=258)
        ),
        "is an encoder-decoder (t5)",
    ),
    "MambaForCausalLM": (
        lambda: tf.MambaForCausalLM(tf.MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=258, state_size=4)),
        "(mamba) has no attention heads, as a pure state-space model",
    ),
    "Mamba2ForCausalLM": (
        lambda: tf.Mamba2ForCausalLM(
            tf.Mamba2Config(
                hidden_size=32, num_hidden_layers=2, vocab_size=258, state_size=4, num_heads=8, head_dim=8, n_groups=1
            )
        ),
        "(mamba2) has no attention heads",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_model_are_refused(kind, tmp_path):
    make, words = KINDS[kind]
    message = refused(save(make(), tmp_path / "model"))
    assert words in message
    assert "thalweg measures decoder-only models" in message


def test_a_model_declared_bidirectional_is_refused(good):
    for flag in ({"is_causal": False}, {"is_causal": True, "use_bidirectional_attention": True}):
        configured(good, **flag)
        assert "(llama) is declared bidirectional" in refused(good)


def test_a_wrapper_of_a_language_model_is_called_one(tmp_path):
    text = {**SIZES, "num_key_value_heads": 2}
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    configuration = tf.LlavaConfig(
        vision_config=tf.CLIPVisionConfig(**sizes, image_size=8, patch_size=4), text_config=tf.LlamaConfig(**text)
    )
    configuration.save_pretrained(tmp_path)
    assert "(llava) wraps a language model (llama)" in refused(tmp_path)


@pytest.mark.parametrize("named", ["flash_attention_2", "kernels-community/flash-attn", "flex_attention"])
def test_attention_kernels_of_the_configuration_are_not_asked_for(named, good):
    tokens = torch.arange(8)[None]
    expected = load_model(identify_model(str(good)))(tokens).logits
    configured(good, attn_implementation=named)
    model = load_model(identify_model(str(good)))
    assert torch.equal(model(tokens).logits, expected)
    assert subject_of(model).path == "interface"


@pytest.fixture
def kernels(monkeypatch):
    """The package that fetches kernels, as if it were installed; what it is asked for."""
    asked = []

    def fetched(repository, *_, **__):
        asked.append(repository)
        raise FileNotFoundError(repository)

    for module in ("transformers.modeling_utils", "transformers.integrations.hub_kernels"):
        monkeypatch.setattr(f"{module}.is_kernels_available", lambda *_, **__: True)
    monkeypatch.setattr("transformers.integrations.hub_kernels.get_kernel", fetched)
    return asked


OWN_CODE = """
import transformers

class Config(transformers.LlamaConfig):
    model_type = "mine"

class Model(transformers.LlamaForCausalLM):
    config_class = Config
"""


@pytest.mark.parametrize("named", ["evil/kernel", "evil/kernel@v1:attend", "paged|evil/kernel", {"": "evil/kernel"}])
@pytest.mark.parametrize("setting", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
def test_a_kernel_that_a_model_names_is_never_fetched(named, setting, good, kernels):
    configured(good, **{setting: named})
    load_model(identify_model(str(good)))
    (good / "own.py").write_text(OWN_CODE)
    maps = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    configured(good, model_type="mine", architectures=["Model"], auto_map=maps)
    load_model(identify_model(str(good), LoadOptions(trust_remote_code=True)))
    assert kernels == []


def test_a_kernel_is_fetched_where_nothing_is_done_about_it(good, kernels):
    configured(good, attn_implementation="evil/kernel")
    with pytest.raises(ValueError, match="evil/kernel"):
        tf.AutoModelForCausalLM.from_pretrained(good)
    assert kernels == ["evil/kernel"]


def test_a_model_that_fails_by_itself_is_one_line(good, monkeypatch):
    def broken(*_, **__):
        raise AttributeError("no such thing")

    model = load_model(identify_model(str(good)))
    monkeypatch.setattr(tf.models.llama.modeling_llama.LlamaMLP, "forward", broken)
    with pytest.raises(
        ModelError, match=r"LlamaForCausalLM fails by itself on four tokens, .*: AttributeError: no such"
    ):
        subject_of(model)


def test_attention_that_cannot_be_seen_is_refused(tmp_path):
    configuration = tf.XLNetConfig(d_model=32, n_layer=2, n_head=4, d_inner=48, vocab_size=258)
    identified = identify_model(save(tf.XLNetLMHeadModel(configuration), tmp_path / "model"))
    with pytest.raises(ModelError, match=r"shows no softmax attention.*a row in capture/_families.py"):
        subject_of(load_model(identified))


def without_weights(path):
    (path / "model.safetensors").unlink()


def pickled(path):
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    without_weights(path)


def truncated(path):
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[: len(content) // 2])


def remote_code(path):
    configured(path, model_type="mine", auto_map={"AutoConfig": "configuration_mine.Mine"}, architectures=["Mine"])
    (path / "configuration_mine.py").write_text("raise SystemExit('it ran')")


def without_a_shard(path):
    save(llama(), path, max_shard_size="20KB")
    (path / "model.safetensors").unlink(missing_ok=True)
    sorted(path.glob("model-*.safetensors"))[1].unlink()


def without_a_weight(path):
    weights = load_file(path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


def without_the_index(path):
    save(llama(), path, max_shard_size="20KB")
    (path / "model.safetensors").unlink(missing_ok=True)
    (path / "model.safetensors.index.json").unlink()


def holding(*names):
    def spoil(path):
        for file in path.iterdir():
            file.unlink()
        for name in names:
            (path / name).write_text("{}")

    return spoil


SPOILT = {
    "shards without an index": (without_the_index, r"shards of weights and no model.safetensors.index.json"),
    "a processor": (holding("preprocessor_config.json", "tokenizer.json"), "holds a processor alone"),
    "a tokenizer": (holding("tokenizer.json"), "holds a tokenizer alone"),
    "a run": (holding("run.json"), "is a run of thalweg; give the model"),
    "neither": (holding("notes.txt"), "is neither a run nor a model"),
    "no weights": (without_weights, "has no weights: expected model.safetensors or its shards"),
    "only pickled weights": (pickled, r"only pickled weights \(pytorch_model.bin\).*--allow-pickle"),
    "truncated weights": (truncated, "weights of .* are damaged .*Fetch them again"),
    "empty weights": (lambda path: (path / "model.safetensors").write_bytes(b""), "are damaged"),
    "no weights but noise": (lambda path: (path / "model.safetensors").write_bytes(b"noise" * 99), "are damaged"),
    "a shard missing": (without_a_shard, "model-00002-of"),
    "a weight missing": (without_a_weight, r"lacks 1 of the weights .*model.layers.1.mlp.up_proj.weight"),
    "more blocks than weights": (lambda path: configured(path, num_hidden_layers=3), "lacks 9 of the weights"),
    "another width": (lambda path: configured(path, hidden_size=64), "weights of other shapes than its config.json"),
    "remote code": (remote_code, "its own code, which is not run. Pass --trust-remote-code"),
    "no config.json": (lambda path: (path / "config.json").unlink(), "has no config.json"),
    "broken config.json": (lambda path: (path / "config.json").write_text('{"model_type": '), "not a valid JSON"),
    "binary config.json": (lambda path: (path / "config.json").write_bytes(b"\xff\xfe\x00"), "not a valid JSON"),
    "empty config.json": (lambda path: (path / "config.json").write_text("{}"), "model_type"),
    "a config.json of an unknown kind": (lambda path: configured(path, model_type="new"), "model type `new`"),
    "a config.json with a word for a number": (
        lambda path: configured(path, num_hidden_layers="two"),
        "num_hidden_layers.*got str",
    ),
    "a tokenizer that is broken": (
        lambda path: (path / "tokenizer.json").write_text('{"version'),
        "the tokenizer of .* cannot be loaded",
    ),
}


SIZES_OF_NOTHING = {
    "num_hidden_layers": 10**6,
    "num_labels": 10**8,
    "hidden_size": 10**6,
    "intermediate_size": 10**9,
    "vocab_size": 10**9,
    "num_attention_heads": 10**6,
    "num_key_value_heads": 10**6,
    "head_dim": 10**6,
}


@pytest.mark.parametrize("name", SIZES_OF_NOTHING)
def test_a_size_that_the_weights_cannot_have_is_refused_before_anything_is_built(name, good, monkeypatch):
    def built(*_, **__):
        raise AssertionError("a model is built")

    monkeypatch.setattr(tf.AutoModelForCausalLM, "from_pretrained", built)
    configured(good, **{name: SIZES_OF_NOTHING[name]})
    message = refused(good)
    assert f"{name} {SIZES_OF_NOTHING[name]:,}" in message
    assert str(good) in message


def test_blocks_that_the_configuration_leaves_out_are_mentioned(good, caplog):
    load_model(identify_model(str(good)))
    assert caplog.messages == []
    configured(good, num_hidden_layers=1)
    assert load_model(identify_model(str(good))).config.num_hidden_layers == 1
    [said] = caplog.messages
    assert f"{good} comes with weights of blocks 1 that its configuration leaves out" in said


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "adapter_config.json"])
def test_a_pipe_in_a_directory_is_refused_at_once(file, good):
    (good / file).unlink(missing_ok=True)
    os.mkfifo(good / file)
    assert f"{file}: expected a file" in refused(good)


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_directory_that_is_spoilt_is_refused(spoilt, good):
    spoil, words = SPOILT[spoilt]
    spoil(good)
    message = refused(good)
    assert re.search(words, message), message
    assert str(good) in message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/nowhere/at/all", "there is no directory /nowhere/at/all"),
        ("./nowhere", "there is no directory ./nowhere"),
        ("one/two/three", "there is no directory one/two/three"),
        ("name with spaces", "'name with spaces' is neither a directory nor a hub id"),
        ("[bold]\x1b[31m", r"neither a directory nor a hub id"),
    ],
)
def test_a_name_that_means_nothing_is_refused(name, words):
    assert words in refused(name)


def test_a_file_is_no_model(good):
    assert "is a file; expected a directory with config.json" in refused(good / "config.json")


def test_pickled_weights_are_read_when_they_are_trusted(good):
    identity = identify_model(str(good)).weights
    expected = load_file(good / "model.safetensors")
    pickled(good)
    found = identify_model(str(good), LoadOptions(allow_pickle=True))
    assert found.weights == identity
    model = load_model(found)
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in expected.items())


def test_pickled_weights_run_no_code_even_then(good, tmp_path):
    class Touch:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    without_weights(good)
    torch.save({"model.norm.weight": Touch()}, good / "pytorch_model.bin")
    assert "hold more than tensors" in refused(good, allow_pickle=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "mps:3", "meta"])
def test_a_device_that_cannot_be_used_is_refused(device, good):
    assert f"device {device!r} cannot be used: " in refused(good, device=device)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device_map": "nonsense"}, "nonsense"),
        ({"device_map": "auto", "max_memory": {"cpu": "lots"}}, "lots"),
        ({"dtype": "float8"}, "dtype 'float8' is unknown; expected auto, float32"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(options, words, good):
    assert words in refused(good, **options)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")])
def test_a_model_too_large_for_the_memory_is_refused(error, good, monkeypatch):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(tf.PreTrainedModel, "to", full)
    assert "does not fit into memory. Pass --device-map auto" in refused(good)


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_a_model_without_a_tokenizer_is_refused_and_none_made_up(family, tmp_path):
    save(tiny(family), tmp_path, tokenizer=False)
    with pytest.raises(ModelError, match=r"expected tokenizer.json, or its kin, beside config.json"):
        identify_model(str(tmp_path))


def test_a_tokenizer_with_more_tokens_than_the_embedding_is_refused(tmp_path):
    path = save(llama(vocab_size=100, bos_token_id=0, eos_token_id=0), tmp_path)
    words = "has token 255 and the embedding 100 rows, tokens 0 to 99. Check that the tokenizer belongs to this model."
    assert refused(path).endswith(words)


def test_tokens_added_beyond_the_embedding_are_none_of_a_text(good):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<image>", "<video>", "<sound>"], special_tokens=True)
    tokenizer.save_pretrained(good)
    assert max(identify_model(str(good)).tokenizer.get_vocab().values()) >= 258


def test_an_unembedding_that_is_missing_is_not_made_up(good):
    weights = load_file(good / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, good / "model.safetensors", metadata={"format": "pt"})
    model = load_model(identify_model(str(good)))
    assert model.get_output_embeddings() is None
    failed = [(check.capability, check.detail) for check in prove(subject_of(model)) if not check.passed]
    assert failed == [("unembedding", "the model has no unembedding")]


def test_one_number_for_all_blocks_is_expected(good, monkeypatch):
    own = tf.AutoConfig.from_pretrained

    def uneven(*given, **options):
        config = own(*given, **options)
        config.__dict__["num_attention_heads"] = [4, 2]
        return config

    monkeypatch.setattr(tf.AutoConfig, "from_pretrained", uneven)
    assert "num_attention_heads = [4, 2]; expected one number" in refused(good)


def test_loading_says_nothing_and_leaves_transformers_as_it_was(good, capfd, monkeypatch):
    monkeypatch.delenv("DISABLE_SAFETENSORS_CONVERSION", raising=False)
    transformers_logging.set_verbosity_warning()
    transformers_logging.enable_progress_bar()
    capfd.readouterr()
    configured(good, bos_token_id=50_000)  # worth a remark to transformers
    load_model(identify_model(str(good)))
    assert capfd.readouterr() == ("", "")
    assert transformers_logging.get_verbosity() == transformers_logging.WARNING
    assert transformers_logging.is_progress_bar_enabled()
    assert "DISABLE_SAFETENSORS_CONVERSION" not in os.environ
