"""``thalweg verify``: a line a check, by capability; an exit code for what a survey needs."""

import json

import pytest
import transformers as tf

from saved import SIZES, save
from thalweg.streaming import AttentionResult, streamed_attention

CHECKS = {
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
    assert len(lines) == 8
    assert all(" yes " in line for line in lines)


def test_json_says_the_same(thalweg, model):
    outcome = thalweg("verify", model, "--json")
    checks = json.loads(outcome.out)
    assert (outcome.code, outcome.err, len(checks)) == (0, "", 8)
    assert all(check["passed"] for check in checks)
    assert set(checks[0]) == {"capability", "name", "passed", "detail"}


def test_the_bundled_model_is_the_default(thalweg):
    assert "reference: LlamaForCausalLM" in thalweg("verify").out


def test_what_a_survey_does_not_need_may_fail(thalweg, norm_after):
    outcome = thalweg("verify", norm_after, "--json")
    failed = [check for check in json.loads(outcome.out) if not check["passed"]]
    assert [check["capability"] for check in failed] == ["additive parts"]
    assert outcome.code == 0
    assert sum(" NO " in line for line in thalweg("verify", norm_after).out.splitlines()) == 1


def test_what_a_survey_needs_may_not(thalweg, model, data, tmp_path, monkeypatch):
    def wrong(*given, **options):
        result = streamed_attention(*given, **options)
        return AttentionResult(result.output * 1.01, result.statistics)

    monkeypatch.setattr("thalweg.capture._interface.streamed_attention", wrong)
    outcome = thalweg("verify", model)
    assert outcome.code == 2
    assert outcome.err == ""
    assert " NO " in outcome.out
    complaint = thalweg("survey", model, "--data", data, "--out", tmp_path / "run").complaint
    assert (
        "LlamaForCausalLM cannot be measured (states and attention): streamed attention changes no state" in complaint
    )
