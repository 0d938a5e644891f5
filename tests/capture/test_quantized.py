"""Quantized checkpoints are measured where transformers loads them, and a run says what they are."""

import pytest
import transformers as tf

from saved import llama, save
from thalweg.capture import identify_model, identity_of_model, load_model, prove, subject_of
from thalweg.capture._identity import quantization_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def eight_bits(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    whole = save(llama(), path / "whole")
    how = tf.BitsAndBytesConfig(load_in_8bit=True)
    model = tf.AutoModelForCausalLM.from_pretrained(whole, quantization_config=how, device_map={"": "cpu"})
    return whole, save(model, path / "eight"), model


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
