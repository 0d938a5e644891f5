"""Quantized checkpoints are measured where transformers loads them, and a run says what they are."""

import shutil

import pytest
import torch
import transformers as tf
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
from safetensors.torch import load_file, save_file

import thalweg
from saved import configured, llama, save
from thalweg.capture import identify_given, identify_model, identity_of_model, load_model, prove, subject_of
from thalweg.capture._identity import quantization_of
from thalweg.errors import ModelError, UsageError
from thalweg.options import LoadOptions
from thalweg.reference import byte_tokenizer
from thalweg.report._page import run_facts

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
TOKENS = torch.arange(12)[None]
SIDE = 16
"""Of a block of FP8 weights."""


def bits(path, whole, **how):
    quantized = tf.BitsAndBytesConfig(**how)
    model = tf.AutoModelForCausalLM.from_pretrained(whole, quantization_config=quantized, device_map={"": "cpu"})
    return save(model, path), model


@pytest.fixture(scope="module")
def eight_bits(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    whole = save(llama(), path / "whole")
    return whole, *bits(path / "eight", whole, load_in_8bit=True)


def test_a_directory_of_eight_bits_is_loaded_and_proved_as_it_is(eight_bits):
    whole, eight, _ = eight_bits
    found = identify_model(eight)
    assert found.quantization == "bitsandbytes 8-bit"
    assert identify_model(whole).quantization is None
    assert found.weights != identify_model(whole).weights
    model = load_model(found)
    assert type(model.model.layers[0].mlp.up_proj).__name__ == "Linear8bitLt"
    assert all(check.passed for check in prove(subject_of(model)))


def test_its_identity_is_that_of_the_model_in_memory(eight_bits):
    _, eight, model = eight_bits
    found = identify_model(eight)
    assert found.weights == identity_of_model(model) == identity_of_model(load_model(found))


def written(path, change, **said):
    """A saved model with other tensors in the place of its own, and what its configuration says of them."""
    tensors = load_file(path / "model.safetensors")
    save_file(
        {name: new for key, weight in tensors.items() for name, new in change(key, weight)},
        path / "model.safetensors",
        metadata={"format": "pt"},
    )
    configured(path, quantization_config=said)
    return str(path)


def fp8(path, dtype=torch.float32):
    """A Llama with weights in FP8 blocks, and the same model of what they stand for."""
    model = llama().to(dtype)
    save(model, path)

    def packed(name, weight):
        if "proj" not in name:
            return [(name, weight)]
        blocks = weight.float().reshape(weight.shape[0] // SIDE, SIDE, weight.shape[1] // SIDE, SIDE)
        scales = blocks.abs().amax((1, 3)) / 448
        small = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn)
        plain = (small.float() * scales[:, None, :, None]).reshape(weight.shape)
        model.get_parameter(name).data = plain.to(dtype)
        return [(name, small.reshape(weight.shape)), (f"{name}_scale_inv", scales)]

    return written(path, packed, quant_method="fp8", weight_block_size=[SIDE, SIDE], activation_scheme="dynamic"), model


FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def mxfp4(path):
    """A GPT-OSS whose experts are in MXFP4, and the same model of what they stand for."""
    sizes = {"hidden_size": 32, "intermediate_size": 32, "head_dim": 8, "vocab_size": 258, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 2, "num_experts_per_tok": 1}
    tokens = {"bos_token_id": 256, "eos_token_id": 256, "pad_token_id": None}
    yarn = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 64, "rope_theta": 1e4}
    config = tf.GptOssConfig(**sizes, **heads, **tokens, max_position_embeddings=2048, rope_parameters=yarn)
    torch.manual_seed(0)
    model = tf.GptOssForCausalLM(config).eval()
    save(model, path)

    def packed(name, weight):
        if not name.endswith(("gate_up_proj", "down_proj")):
            return [(name, weight)]
        experts, inputs, outputs = weight.shape
        blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        scales = torch.randint(122, 127, (experts, outputs, inputs // 32), dtype=torch.uint8)
        digits = torch.stack([FP4[(blocks & 15).int()], FP4[(blocks >> 4).int()]], -1).flatten(-2)
        plain = digits * 2.0 ** (scales.int() - 127)[..., None]
        model.get_parameter(name).data = plain.reshape(experts, outputs, inputs).mT.contiguous()
        return [(f"{name}_blocks", blocks), (f"{name}_scales", scales)]

    return written(path, packed, quant_method="mxfp4"), model


@pytest.mark.parametrize(("make", "words"), [(fp8, "fp8"), (mxfp4, "mxfp4")])
def test_what_is_dequantized_as_it_loads_gives_the_numbers_that_it_stands_for(make, words, tmp_path):
    name, plain = make(tmp_path / "model")
    model = load_model(identify_model(name))
    torch.testing.assert_close(model(TOKENS).logits, plain(TOKENS).logits)
    run = thalweg.survey(name, ["some words"] * 2, out=tmp_path / "run", progress=False)
    facts = run.header.models[0]
    assert facts.quantization == words
    assert words in str(run_facts(run))
    assert facts.weights == identify_model(name).weights != identity_of_model(plain)
    assert "sinks" in thalweg.write_report(run.path).read_text()


def test_what_is_not_packed_stays_as_it_was_saved_and_the_dtype_says_so(tmp_path, eight_bits):
    name, plain = fp8(tmp_path / "half", torch.bfloat16)
    found = identify_model(name)
    model = load_model(found)
    assert found.dtype == "bfloat16"
    assert model.dtype == torch.bfloat16
    torch.testing.assert_close(model(TOKENS).logits, plain(TOKENS).logits, rtol=0.05, atol=0.05)
    for kept, asked, path in (("bfloat16", "float32", name), ("float32", "bfloat16", eight_bits[1])):
        with pytest.raises(ModelError, match=f"its other weights in {kept}, as they were saved. Pass --dtype {kept}"):
            load_model(identify_model(path, LoadOptions(dtype=asked)))


def test_four_bits_that_were_packed_by_a_pass_are_not_read_again(tmp_path):
    """To read them changes them: bitsandbytes' numbers are others after state_dict()."""
    whole = save(llama(hidden_size=64, intermediate_size=128), tmp_path / "whole")
    name, _ = bits(tmp_path / "four", whole, load_in_4bit=True, bnb_4bit_quant_type="nf4")
    assert identify_model(name).quantization == "bitsandbytes 4-bit nf4"
    model = load_model(identify_model(name))
    assert identify_given(model, byte_tokenizer(), LoadOptions()).weights == identify_model(name).weights
    with torch.no_grad():
        model(TOKENS)
    if not getattr(model.model.layers[0].mlp.up_proj.weight.quant_state, "packing_format_for_cpu", False):
        pytest.skip("this processor packs nothing")
    with pytest.raises(UsageError, match="packed for this processor"):
        identify_given(model, byte_tokenizer(), LoadOptions())


def packed_int4(name, weight):
    """Eight four-bit numbers in one, as GPTQ and AWQ lay them."""
    if "proj" not in name:
        return [(name, weight)]
    stem, (outputs, inputs) = name.removesuffix(".weight"), weight.shape
    numbers = torch.zeros(inputs // 8, outputs, dtype=torch.int32)
    return [(f"{stem}.qweight", numbers), (f"{stem}.scales", torch.ones(1, outputs).half())]


UNREAD = {
    "gptq": ({"quant_method": "gptq", "bits": 4, "group_size": 32}, packed_int4, "quantizer_gptq.is_gptqmodel"),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": 32}, packed_int4, "quantizer_awq.is_gptqmodel"),
    "compressed-tensors": (
        {
            "quant_method": "compressed-tensors",
            "format": "int-quantized",
            "config_groups": {"all": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "int"}}},
        },
        lambda name, weight: [(name, weight)],
        "quantizer_compressed_tensors.is_compressed_tensors",
    ),
}


@pytest.mark.parametrize("method", UNREAD)
def test_what_needs_another_package_says_which(method, tmp_path, monkeypatch):
    said, change, package = UNREAD[method]
    monkeypatch.setattr(f"transformers.quantizers.{package}_available", lambda: False)
    save(llama(), tmp_path)
    name = written(tmp_path, change, **said)
    with pytest.raises(ModelError) as refused:
        load_model(identify_model(name))
    line = str(refused.value)
    assert "\n" not in line
    assert line.startswith(f"{name} is quantized ({method}")
    assert "pip install" in line
    assert line.endswith("Install what transformers needs for it, or give weights that are not quantized.")


@pytest.mark.parametrize("kind", ["int-quantized", "float-quantized", "pack-quantized"])
def test_weights_that_the_first_pass_unpacks_are_unpacked_before_parts_are_run(kind, tmp_path):
    four = kind == "pack-quantized"
    weights = {"num_bits": 4 if four else 8, "type": "float" if kind == "float-quantized" else "int"}
    weights |= {"strategy": "group", "group_size": SIDE} if four else {"strategy": "channel"}
    groups = {"all": {"targets": ["Linear"], "weights": {**weights, "symmetric": True}, "format": kind}}
    said = {"quant_method": "compressed-tensors", "format": kind, "ignore": ["lm_head"], "config_groups": groups}
    settings = QuantizationConfig.model_validate({**said, "quantization_status": "frozen"})
    model = llama()
    apply_quantization_config(model, settings, run_compressed=False)
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            weight = module.weight.data.unflatten(1, (-1, SIDE)) if four else module.weight.data
            largest = 448 if kind == "float-quantized" else 2 ** (weights["num_bits"] - 1) - 1
            module.weight_scale.data.copy_(weight.abs().amax(-1, keepdim=not four) / largest)
    ModelCompressor(quantization_config=settings).compress_model(model)
    name = save(model, tmp_path)
    configured(tmp_path, quantization_config={**said, "quantization_status": "compressed"})
    by_hand = tf.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    loaded = load_model(identify_model(name))
    assert all(check.passed for check in prove(subject_of(loaded)))
    torch.testing.assert_close(loaded(TOKENS).logits, by_hand(TOKENS).logits)
    run = thalweg.survey(name, ["some words"], out=tmp_path / "run", progress=False)
    assert run.header.models[0].quantization == f"compressed-tensors {kind}"


def test_what_transformers_does_not_know_is_not_read_as_plain_numbers(eight_bits, tmp_path):
    name = shutil.copytree(eight_bits[0], tmp_path / "model")
    configured(name, quantization_config={"quant_method": "no_such_method"})
    with pytest.raises(ModelError, match=r"by its config.json \(no_such_method\), in a way that transformers does not"):
        load_model(identify_model(str(name)))


def test_weights_in_memory_that_cannot_be_read_are_a_line(monkeypatch):
    def unreadable(*_):
        raise NotImplementedError("unimplemented operator: func=aten.view")

    monkeypatch.setattr("thalweg.capture._given.identity_of_model", unreadable)
    with pytest.raises(UsageError, match=r"cannot be read \(unimplemented operator: func=aten.view\). Give its direct"):
        identify_given(llama(), byte_tokenizer(), LoadOptions())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq 4-bit"),
        ({"quant_method": "awq", "bits": 4}, "awq 4-bit"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "compressed-tensors pack-quantized"),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            "bitsandbytes 4-bit nf4",
        ),
        (tf.BitsAndBytesConfig(load_in_8bit=True), "bitsandbytes 8-bit"),
    ],
)
def test_a_checkpoint_says_how_it_is_quantized(said, words):
    assert quantization_of(tf.LlamaConfig(quantization_config=said)) == words
