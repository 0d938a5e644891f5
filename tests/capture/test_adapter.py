"""An adapter is its base with other weights, by another name and identity; what cannot be loaded so is one line."""

import json
import shutil
import warnings
from contextlib import suppress
from pathlib import Path

import peft
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from saved import in_cache, llama, save
from thalweg.capture import _adapter, identify_model, load_model, prove, subject_of
from thalweg.errors import ModelError
from thalweg.experiments._prepare import prepare
from thalweg.options import LoadOptions

RANK, ALPHA = 2, 6
TOKENS = torch.arange(12)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save(llama(), tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def made(base, tmp_path_factory):
    """A LoRA that changes attention, MLP and, as a whole, the unembedding."""
    path = tmp_path_factory.mktemp("adapters") / "adapter"
    how = {
        "target_modules": ["q_proj", "o_proj", "down_proj"],
        "modules_to_save": ["lm_head"],
        "task_type": "CAUSAL_LM",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers for what is deprecated
        model = peft.get_peft_model(llama(), peft.LoraConfig(r=RANK, lora_alpha=ALPHA, init_lora_weights=False, **how))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "modules_to_save" in name:
                weight += 0.5
    model.save_pretrained(path)
    settings(path, base_model_name_or_path=base)
    return path


@pytest.fixture
def adapter(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "adapter"))


def settings(path, **changes):
    file = Path(path) / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def by_hand(base, adapter):
    """W + alpha / r B A, and the unembedding as it was saved."""
    weights, stored = load_file(f"{base}/model.safetensors"), load_file(adapter / "adapter_model.safetensors")
    for name, weight in stored.items():
        place = name.removeprefix("base_model.model.")
        if place == "lm_head.weight":
            weights[place] = weight
        elif "lora_A" in place:
            weights[place.replace("lora_A.", "")] += ALPHA / RANK * stored[name.replace("lora_A", "lora_B")] @ weight
    model = llama()
    model.load_state_dict(weights)
    return model


def refused(path, **options):
    with pytest.raises(ModelError) as caught:
        load_model(identify_model(str(path), LoadOptions(**options)))
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) == 1
    return message


def test_an_adapter_is_its_base_with_its_weights_added(adapter, base):
    model, expected = load_model(identify_model(str(adapter))), by_hand(base, adapter)
    logits, plain = (each(TOKENS).logits for each in (model, expected))
    torch.testing.assert_close(logits, plain, rtol=1e-5, atol=1e-5)
    assert (logits - load_model(identify_model(base))(TOKENS).logits).abs().max() > 1
    assert all(check.passed for check in prove(subject_of(model)))


def test_a_base_inside_is_the_one_that_is_taken(adapter, base):
    expected = load_model(identify_model(str(adapter)))(TOKENS).logits
    settings(adapter, base_model_name_or_path="org/elsewhere", auto_mapping={"parent_library": "no_such_module"})
    shutil.copytree(base, adapter, dirs_exist_ok=True)
    found = identify_model(str(adapter))
    assert torch.equal(load_model(found)(TOKENS).logits, expected)
    assert found.weights != identify_model(base).weights
    _, inside = found.adapter
    plain = load_model(identify_model(base))(TOKENS).logits
    assert torch.equal(load_model(inside)(TOKENS).logits, plain)  # transformers adds no adapter of its own accord


def test_its_tokenizer_comes_first(adapter, base):
    shutil.copy(f"{base}/tokenizer.json", adapter)
    configuration = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "pad_token": "<s>"}
    (adapter / "tokenizer_config.json").write_text(json.dumps(configuration))
    assert identify_model(str(adapter)).tokenizer.pad_token == "<s>"
    assert identify_model(base).tokenizer.pad_token is None


def test_the_adapter_is_part_of_the_identity(adapter, base):
    found = {identify_model(base).weights, identify_model(str(adapter)).weights}
    settings(adapter, inference_mode=False, peft_version="0.0.1")  # changes no number
    assert identify_model(str(adapter)).weights in found
    settings(adapter, lora_alpha=1)
    found.add(identify_model(str(adapter)).weights)
    weights = load_file(adapter / "adapter_model.safetensors")
    weights["base_model.model.lm_head.weight"][0, 0] += 1e-3
    save_file(weights, adapter / "adapter_model.safetensors")
    found.add(identify_model(str(adapter)).weights)
    assert len(found) == 4


def test_the_header_names_the_base(adapter, base):
    assert prepare(str(adapter)).header.models[0].adapter == f"LORA on {base}"


def by_peft(base, adapter, **options):
    model = tf.AutoModelForCausalLM.from_pretrained(base, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.PeftModel.from_pretrained(model, str(adapter)).eval()(TOKENS).logits


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_a_base_of_eight_bits_gives_the_numbers_that_peft_gives(adapter, base, tmp_path):
    how = {"quantization_config": tf.BitsAndBytesConfig(load_in_8bit=True), "device_map": {"": "cpu"}}
    eight = save(tf.AutoModelForCausalLM.from_pretrained(base, **how), tmp_path / "eight")
    plain = identify_model(str(adapter))
    settings(adapter, base_model_name_or_path=eight)
    for options in ({}, {"device_map": "auto"}):
        found = identify_model(str(adapter), LoadOptions(**options))
        model = load_model(found)
        assert torch.equal(model(TOKENS).logits, by_peft(eight, adapter))
    assert (model(TOKENS).logits - load_model(found.adapter[1])(TOKENS).logits).abs().max() > 1
    assert all(check.passed for check in prove(subject_of(model)))
    assert (found.quantization, plain.quantization) == ("bitsandbytes 8-bit", None)
    assert found.weights != plain.weights
    facts = prepare(str(adapter)).header.models[0]
    assert (facts.quantization, facts.adapter) == ("bitsandbytes 8-bit", f"LORA on {eight}")


def test_a_base_that_a_device_map_places_gives_the_same_numbers(adapter, base):
    model = load_model(identify_model(str(adapter), LoadOptions(device_map="auto")))
    torch.testing.assert_close(model(TOKENS).logits, by_peft(base, adapter))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_base_that_is_partly_on_the_disk_is_refused(adapter, tmp_path):
    limits = {"max_memory": {"cpu": "50KB"}, "offload_folder": str(tmp_path / "disk")}
    line = refused(adapter, device_map="auto", **limits)
    assert "keeps weights of its base" in line
    assert line.endswith("Give more --max-memory, or merge the adapter into its base.")


def test_a_base_on_the_hub_is_taken_from_its_cache_and_part_of_the_identity(adapter, base, hub_cache):
    expected = identify_model(str(adapter))
    in_cache(hub_cache, "org/base", base)
    in_cache(hub_cache, "org/adapter", adapter)
    for place in (adapter, next((hub_cache / "models--org--adapter" / "snapshots").iterdir())):
        settings(place, base_model_name_or_path="org/base")
    for name, revision in ((str(adapter), "local"), ("org/adapter", "main")):
        found = identify_model(name)
        assert torch.equal(load_model(found)(TOKENS).logits, load_model(expected)(TOKENS).logits)
        assert found.weights == expected.weights  # wherever the base lies
        assert found.files == found.adapter[0].upon(identify_model("org/base").files)
        facts = prepare(name).header.models[0]
        assert (facts.adapter, facts.revision) == ("LORA on org/base", revision)
    other = llama()
    other.model.norm.weight.data += 1
    in_cache(hub_cache, "org/other", save(other, adapter.parent / "other"))
    settings(adapter, base_model_name_or_path="org/other")
    assert identify_model(str(adapter)).weights != expected.weights


def pickled(path):
    torch.save(load_file(path / "adapter_model.safetensors"), path / "adapter_model.bin")
    (path / "adapter_model.safetensors").unlink()


def stacked(path):
    shutil.copytree(path, path.parent / "other")
    settings(path, base_model_name_or_path=str(path.parent / "other"))


def of_another_shape(path):
    settings(path, base_model_name_or_path=save(llama(num_hidden_layers=1), path.parent / "other"))


SPOILT = {
    "base elsewhere": (
        lambda path: settings(path, base_model_name_or_path="/away/base"),
        "is an adapter of /away/base, which cannot be measured: there is no directory /away/base.",
    ),
    "base out of reach": (
        lambda path: settings(path, base_model_name_or_path="org/base"),
        "the hub cannot be reached and org/base (main) is not in the local cache.",
    ),
    "no base": (lambda path: settings(path, base_model_name_or_path=None), "is an adapter that names no base"),
    "adapter of an adapter": (stacked, "an adapter itself. Merge that into its base first."),
    "another base": (of_another_shape, "does not fit its base"),
    "without weights": (lambda path: (path / "adapter_model.safetensors").unlink(), "is an adapter without weights"),
    "pickled": (pickled, "adapter with pickled weights (adapter_model.bin)"),
    "prompts": (
        lambda path: (path / "adapter_config.json").write_text(
            json.dumps({"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3, "task_type": "CAUSAL_LM"})
        ),
        "is an adapter of the kind PREFIX_TUNING, which adds more than weights",
    ),
    "megatron": (
        lambda path: settings(path, megatron_config={"a": 1}, megatron_core="no_such_module"),
        "is an adapter for megatron, which is not run",
    ),
    "broken": (lambda path: (path / "adapter_config.json").write_text("{"), "cannot be loaded"),
}


@pytest.mark.parametrize("named", [3, True, 1.5, ["base"], {"a": "base"}, "two\nlines"])
def test_a_base_that_is_no_name_is_refused(named, adapter):
    settings(adapter, base_model_name_or_path=named)
    assert "base_model_name_or_path" in refused(adapter)


CODE = """
import pathlib
pathlib.Path(__file__).with_name("it-ran").touch()
class Model: ...
"""


@pytest.mark.parametrize(
    "named",
    [
        {"auto_mapping": {"base_model_class": "Model", "parent_library": "canary"}, "task_type": None},
        {"megatron_core": "canary"},
        {"megatron_core": "canary", "megatron_config": {"a": 1}},
        {"peft_type": "canary"},
        {"peft_type": "canary.Model"},
        {"task_type": "canary"},
        {"target_modules": "canary.Model"},
        {"init_lora_weights": "canary"},
        {"modules_to_save": ["canary"]},
        {"corda_config": {"cache_file": "canary.py"}},
        {"runtime_config": "canary"},
        {"parent_library": "canary", "auto_map": {"AutoModel": "canary.Model"}},
    ],
    ids=str,
)
def test_code_that_a_configuration_names_is_not_imported(named, adapter, tmp_path, monkeypatch):
    (tmp_path / "canary.py").write_text(CODE)
    (adapter / "canary.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    settings(adapter, **named)
    with suppress(ModelError):
        load_model(identify_model(str(adapter)))
    assert not list(tmp_path.rglob("it-ran"))


@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_cannot_be_loaded_is_one_line(spoilt, adapter):
    spoil, words = SPOILT[spoilt]
    spoil(adapter)
    assert words in refused(adapter)


def test_pickled_weights_are_read_when_they_are_trusted(adapter):
    expected = load_model(identify_model(str(adapter)))(TOKENS).logits
    pickled(adapter)
    found = identify_model(str(adapter), LoadOptions(allow_pickle=True))
    assert torch.equal(load_model(found)(TOKENS).logits, expected)


def test_peft_is_asked_for_by_name(adapter, base, monkeypatch):
    monkeypatch.setattr(_adapter, "find_spec", lambda _: None)
    assert refused(adapter).endswith("needs peft, which is not installed. Run: pip install peft")
    shutil.copytree(base, adapter, dirs_exist_ok=True)
    assert refused(adapter).endswith("Run: pip install peft")  # and not the numbers of the base
