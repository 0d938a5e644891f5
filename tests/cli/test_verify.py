"""``thalweg verify``: a line a check, by capability; an exit code for what a survey needs."""

import json
from dataclasses import replace

import pytest
import torch
import transformers as tf

from saved import SIZES, llama, save
from thalweg.streaming import streamed_attention

CHECKS = {
    "finite numbers": 2,
    "states and attention": 6,
    "additive parts": 1,
    "unembedding": 1,
}


@pytest.fixture(scope="module")
def norm_after(tmp_path_factory):
    """A model whose blocks are not sums."""
    options = {**SIZES, "max_position_embeddings": 64, "pad_token_id": 1, "ffn_dim": 48, "word_embed_proj_dim": 32}
    model = tf.OPTForCausalLM(tf.OPTConfig(**options, do_layer_norm_before=False))
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.data.normal_(1.0, 0.3)
    return save(model, tmp_path_factory.mktemp("models") / "opt")


def test_a_line_is_printed_for_each_check(thalweg, model):
    outcome = thalweg("verify", model)
    assert (outcome.code, outcome.err) == (0, "")
    title, header, *lines = outcome.out.splitlines()
    assert title.strip() == f"{model}: LlamaForCausalLM, attention seen through interface"
    assert header.split() == ["capability", "check", "holds", "figures"]
    for capability, count in CHECKS.items():
        assert sum(line.startswith(capability) for line in lines) == count
    assert len(lines) == 10
    assert all(" yes " in line for line in lines)


def test_json_says_the_same(thalweg, model):
    outcome = thalweg("verify", model, "--json")
    checks = json.loads(outcome.out)
    assert (outcome.code, outcome.err, len(checks)) == (0, "", 10)
    assert all(check["passed"] for check in checks)
    assert set(checks[0]) == {"capability", "name", "passed", "detail"}


def test_the_bundled_model_is_the_default(thalweg):
    assert "reference: LlamaForCausalLM" in thalweg("verify").out


def test_what_a_survey_does_not_need_may_fail(thalweg, norm_after):
    outcome = thalweg("verify", norm_after, "--json")
    failed = [check for check in json.loads(outcome.out) if not check["passed"]]
    assert [check["capability"] for check in failed] == ["additive parts"]
    assert outcome.code == 3
    assert sum(" NO " in line for line in thalweg("verify", norm_after).out.splitlines()) == 1


def test_what_a_survey_needs_may_not(thalweg, model, data, tmp_path, monkeypatch):
    def wrong(*given, **options):
        result = streamed_attention(*given, **options)
        return replace(result, output=result.output * 1.01)

    monkeypatch.setattr("thalweg.capture._interface.streamed_attention", wrong)
    outcome = thalweg("verify", model)
    assert outcome.code == 2
    assert outcome.err == ""
    assert " NO " in outcome.out
    complaint = thalweg("survey", model, "--data", data, "--out", tmp_path / "run").complaint
    assert (
        "LlamaForCausalLM cannot be measured (states and attention): streamed attention changes no state" in complaint
    )


@pytest.fixture(scope="module")
def diverged(tmp_path_factory):
    """A model with a number that is none in its weights."""
    model = llama()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[3, 5] = torch.nan
    return save(model, tmp_path_factory.mktemp("models") / "diverged")


def test_weights_that_are_not_finite_are_told_first_by_their_name(thalweg, diverged):
    first, *_ = json.loads(thalweg("verify", diverged, "--json").out)
    assert (first["capability"], first["name"], first["passed"]) == ("finite numbers", "every weight is finite", False)
    told = "model.layers.1.mlp.down_proj.weight: 1 of 1,536 numbers are NaN or infinite. Fetch the weights again, or "
    assert first["detail"].startswith(told)


def test_what_fails_beside_a_survey_has_an_exit_code(thalweg, diverged):
    assert thalweg("verify", diverged).code == 3


@pytest.mark.parametrize(
    "verb",
    [["lens"], ["attribute"], ["clip", "--gamma", "1,2"], ["ablate", "--blocks", "0"], ["lens", "--train-tuned"]],
)
def test_weights_that_are_not_finite_are_named_by_whoever_needs_them(verb, thalweg, diverged, data, tmp_path):
    name, *options = verb
    complaint = thalweg(name, diverged, "--data", data, "--limit", 4, "--out", tmp_path / "run", *options).complaint
    assert "model.layers.1.mlp.down_proj.weight: 1 of 1,536 numbers are NaN or infinite" in complaint
    assert "_families" not in complaint
