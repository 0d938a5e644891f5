"""Every family is proved, each capability on its own; whatever is broken on purpose is seen by the check it breaks."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import transformers as tf
from torch import nn

from families import BLOCKS, COMMON, FAMILIES, GROUPED, HYBRIDS, tiny
from thalweg.capture import additive_parts, prove, require, subject_of
from thalweg.capture._solved import find_unembedding
from thalweg.errors import ProofError
from thalweg.streaming import streamed_attention

STATES, ADDITIVE, UNEMBEDDING = "states and attention", "additive parts", "unembedding"
TOKENS = torch.randint(2, 97, (2, 12), generator=torch.Generator().manual_seed(1))

SUMMANDS = {
    **dict.fromkeys(("gpt2", "gptj", "codegen"), ("attn", "mlp")),
    "mpt": ("attn", "ffn.down_proj"),
    "gpt_neox": ("attention", "mlp"),
    "opt": ("self_attn", "fc2"),
    "bloom": ("self_attention.dense", "mlp.dense_4h_to_h"),
    "falcon": ("self_attention", "mlp"),
    **dict.fromkeys(("gemma2", "gemma3_text", "olmo2"), ("post_attention_layernorm", "post_feedforward_layernorm")),
}
"""Modules whose outputs a block adds, where they are not ``self_attn`` and ``mlp``."""

OTHER_SUMS = {
    "falcon_h1": lambda: tf.FalconH1Config(
        **GROUPED, head_dim=8, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=8
    ),
    "minimax": lambda: tf.MiniMaxConfig(
        **GROUPED,
        head_dim=8,
        block_size=16,
        num_local_experts=2,
        num_experts_per_tok=1,
        layer_types=["full_attention", "linear_attention", "full_attention"],
    ),
    "opt, norm after": lambda: tf.OPTConfig(
        **{**COMMON, "pad_token_id": 1}, ffn_dim=48, word_embed_proj_dim=16, do_layer_norm_before=False
    ),
}
"""Blocks that add three things, or norm what they have added."""


def built(configuration, *, seed=0):
    torch.manual_seed(seed)
    model = tf.AutoModelForCausalLM.from_config(configuration).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                weight.mul_(3.0)
            elif "norm" in name:  # a norm that scales nothing could be taken for none
                weight.normal_(1.0, 0.3)
    assert sum(weight.numel() for weight in model.parameters()) < 200_000
    return model


def failing(subject, *capabilities):
    return {check.name for check in prove(subject, *capabilities) if not check.passed}


@pytest.fixture
def subject():
    return subject_of(tiny("llama"))


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_every_family_passes_every_check(family):
    checks = prove(subject_of(tiny(family)))
    assert {check.capability for check in checks} == {"finite numbers", STATES, ADDITIVE, UNEMBEDDING}
    assert [check for check in checks if not check.passed] == []
    seen = 1 if family in HYBRIDS else BLOCKS
    [maps] = [check for check in checks if check.name.startswith("attention of")]
    assert maps.name == f"attention of {seen} of {BLOCKS} blocks is the model's own"
    assert "gap" in maps.detail  # compared with the model's own maps, not passed over


@pytest.mark.parametrize("family", FAMILIES)
def test_summands_and_their_scales_are_found(family):
    found = additive_parts(subject_of(tiny(family)), TOKENS)
    scale = 0.22 if family == "granite" else 1.0
    assert [part.block for part in found] == list(range(BLOCKS))
    for part in found:
        assert (part.attention, part.mlp) == SUMMANDS.get(family, ("self_attn", "mlp"))
        assert (part.attention_scale, part.mlp_scale) == (scale, scale)
        assert part.error < 1e-6


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_scale_and_soft_cap_of_the_logits_are_found(family):
    model = tiny(family)
    subject, entering = subject_of(model), []
    found = find_unembedding(subject, TOKENS)
    handle = subject.parts.blocks[-1].module.register_forward_hook(lambda *call: entering.append(call[-1]))
    with torch.no_grad():
        logits = model(TOKENS, use_cache=False).logits
        handle.remove()
        again = found.logits(entering[0][0] if isinstance(entering[0], tuple) else entering[0])
    assert found.scale == {"granite": 0.125, "cohere": 0.0625}.get(family, 1.0)
    assert found.softcap == {"gemma2": 3.0, "recurrent_gemma": 30.0}.get(family)
    assert found.error < 1e-5
    torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", OTHER_SUMS)
def test_a_block_that_adds_otherwise_fails_that_capability_alone(kind):
    subject = subject_of(built(OTHER_SUMS[kind]()))
    assert failing(subject) == {"input + attention + MLP = output in every block"}
    require(subject, STATES)
    require(subject, UNEMBEDDING)
    with pytest.raises(ProofError, match=r"\(additive parts\).*largest error.*capture/_families.py takes a row"):
        require(subject, ADDITIVE)


def test_a_projection_after_the_final_norm_belongs_to_it():
    subject = subject_of(built(tf.OPTConfig(**{**COMMON, "pad_token_id": 1}, ffn_dim=48, word_embed_proj_dim=16)))
    assert isinstance(subject.parts.final_norm, nn.Sequential)
    assert failing(subject) == set()


def altered(change):
    """Streamed attention with its result changed."""

    def attend(query, key, value, **options):
        return change(streamed_attention(query, key, value, **options))

    return attend


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("family", "scale"), {"llama": 1.0, "granite": 0.125, "cohere": 0.0625, "gemma2": 1.0}.items())
def test_the_scale_of_the_logits_is_the_stated_one_in_half_precision(family, scale, dtype):
    assert find_unembedding(subject_of(tiny(family).to(dtype)), TOKENS).scale == scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_scale_of_the_logits_that_is_stated_nowhere_is_solved_for(dtype):
    model = tiny("cohere").to(dtype)
    model.logit_scale = 0.95 * model.config.logit_scale
    assert find_unembedding(subject_of(model), TOKENS).scale == pytest.approx(0.95 * 0.0625, abs=1e-5)


def without_the_last_key(query, key, value, **options):
    assert options.pop("mask") is None

    def mask(rows, keys):
        return (keys < rows[:, None]) | (rows[:, None] == 0)

    return streamed_attention(query, key, value, mask=mask, **options)


def scaled_output(result):
    return replace(result, output=result.output * 1.001)


def other_masses(result):
    moved = result.statistics.column_mass.roll(1, -1)
    return replace(result, statistics=replace(result.statistics, column_mass=moved))


def other_entropies(result):
    return replace(result, statistics=replace(result.statistics, row_entropy=result.statistics.row_entropy * 1.01))


def later_tokens(result):
    return replace(result, output=result.output + result.output.mean(-2, keepdim=True))


MAPS, STATE = f"attention of {BLOCKS} of {BLOCKS} blocks is the model's own", "streamed attention changes no state"


@pytest.mark.parametrize(
    ("attention", "noticed"),
    [
        (without_the_last_key, {STATE, MAPS}),
        (altered(scaled_output), {STATE}),
        (altered(other_masses), {MAPS}),
        (altered(other_entropies), {MAPS}),
        (altered(later_tokens), {STATE, "later tokens change no earlier state"}),
    ],
    ids=["drops the last key", "alters the output", "alters the mass", "alters the entropy", "sees later tokens"],
)
def test_attention_that_is_wrong_is_noticed(subject, monkeypatch, attention, noticed):
    assert failing(subject, STATES) == set()
    monkeypatch.setattr("thalweg.capture._interface.streamed_attention", attention)
    found = failing(subject, STATES)
    assert noticed <= found
    assert "states 0..2 are Hugging Face's own" not in found
    with pytest.raises(ProofError, match=r"LlamaForCausalLM cannot be measured \(states and attention\)"):
        require(subject, STATES)


def test_a_wrong_final_norm_is_noticed(subject):
    with torch.no_grad():
        subject.parts.final_norm.weight.normal_()
    other = nn.Identity()
    wrong = replace(subject, parts=replace(subject.parts, final_norm=other))
    assert failing(subject) == set()
    assert failing(wrong) == {
        "final norm of X(L) is its last state",
        "final norm and unembedding of X(L) are the model's logits",
    }


def test_a_wrong_unembedding_is_noticed(subject):
    other = nn.Linear(32, 97, bias=False)
    wrong = replace(subject, parts=replace(subject.parts, unembedding=other))
    assert failing(wrong) == {"final norm and unembedding of X(L) are the model's logits"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_taken_from_a_neighbour_is_noticed_where_blocks_hardly_differ(dtype):
    """In bfloat16, rounding between two passes would hide it: the comparison is within one."""
    model = tiny("llama", spread=0.3).to(dtype)
    subject = subject_of(model)
    assert failing(subject, STATES) == set()
    blocks = subject.parts.blocks
    order = (blocks[0], replace(blocks[2], index=1), replace(blocks[1], index=2))
    found = failing(replace(subject, parts=replace(subject.parts, blocks=order)), STATES)
    assert "states 0..2 are Hugging Face's own" in found


def test_a_list_of_blocks_that_does_not_run_is_refused(subject):
    blocks = subject.parts.blocks
    idle = (*blocks[:2], replace(blocks[2], module=deepcopy(blocks[2].module)))
    with pytest.raises(ProofError, match="without the block that gives state 3"):
        prove(replace(subject, parts=replace(subject.parts, blocks=idle)))


def test_an_edit_that_moves_nothing_is_noticed(subject, monkeypatch):
    monkeypatch.setattr("thalweg.capture._proof.rewrap", lambda output, _: output)
    assert failing(subject, STATES) == {"an edit moves the output"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("family", ["llama", "gemma2", "granite", "opt"])
def test_other_precisions_find_the_same_summands(family, dtype):
    subject = subject_of(tiny(family).to(dtype))
    assert failing(subject) == set()
    scale = 0.22 if family == "granite" else 1.0
    for part in additive_parts(subject, TOKENS):
        assert (part.attention, part.mlp) == SUMMANDS.get(family, ("self_attn", "mlp"))
        assert part.attention_scale == pytest.approx(scale, rel=0.05)
        assert part.mlp_scale == pytest.approx(scale, rel=0.05)


def test_a_model_that_sees_later_tokens_is_refused():
    configuration = tf.Gemma3TextConfig(**GROUPED, head_dim=8, sliding_window=5, use_bidirectional_attention=True)
    subject = subject_of(built(configuration))
    with pytest.raises(ProofError, match="streamed attention changes no state"):
        require(subject, STATES)


def test_a_model_that_reads_both_ways_is_noticed_although_streamed_attention_does_not():
    model = tiny("llama")
    for module in model.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = False  # what its own attention goes by
    model.set_attn_implementation("sdpa")
    assert failing(subject_of(model), STATES) >= {"later tokens change no earlier state"}


def test_what_calls_itself_the_decoder_need_not_be_it():
    """ModernBERT's is its unembedding, with a head of its own before it."""
    tokens = {"cls_token_id": 0, "sep_token_id": 1, "pad_token_id": 1}
    model = built(tf.ModernBertDecoderConfig(**{**COMMON, **tokens}, layer_types=["full_attention"] * BLOCKS))
    assert isinstance(model.get_decoder(), nn.Linear)
    assert failing(subject_of(model), STATES, ADDITIVE) == set()
