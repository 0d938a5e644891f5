"""Forward passes written out by family, with one summand of some blocks missing at position 0.

They call a model's own norms, attentions and MLPs, add what they give, and know nothing of hooks. Five tokens: every
sliding window of the tiny models sees them all.
"""

import torch
from transformers import PreTrainedModel
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

LENGTH = 5


def causal(length=LENGTH):
    return torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]


def without_first(summand, missing):
    """The summand, with its first row zero if it is the missing one."""
    if missing:
        summand = summand.clone()
        summand[:, 0] = 0.0
    return summand


def states(model: PreTrainedModel, tokens, part, blocks):
    """X(0)..X(L)."""
    model.set_attn_implementation("eager")
    family = model.config.model_type
    return {"gpt_neox": gpt_neox, "bloom": bloom}.get(family, llama_like)(model, tokens, part, set(blocks))


def llama_like(model, tokens, part, blocks):
    """One after the other, with norms and factors where the family has them."""
    family, body = model.config.model_type, model.model
    state = body.embed_tokens(tokens)
    if family == "granite":
        state = state * model.config.embedding_multiplier
    factor = model.config.residual_multiplier if family == "granite" else 1.0
    positions = torch.arange(tokens.shape[1])[None]
    rotary = body.rotary_emb(state, positions)
    found = [state]
    for index, layer in enumerate(body.layers):
        read = state if family == "olmo2" else layer.input_layernorm(state)
        written = layer.self_attn(read, position_embeddings=rotary, attention_mask=causal())[0]
        if family in ("olmo2", "gemma2"):
            written = layer.post_attention_layernorm(written)
        state = state + factor * without_first(written, part == "attention" and index in blocks)
        if family == "olmo2":
            read = state
        else:
            read = (layer.pre_feedforward_layernorm if family == "gemma2" else layer.post_attention_layernorm)(state)
        written = layer.mlp(read)
        if isinstance(written, tuple):
            written = written[0]
        if family in ("olmo2", "gemma2"):
            written = layer.post_feedforward_layernorm(written)
        state = state + factor * without_first(written, part == "mlp" and index in blocks)
        found.append(state)
    return found


def gpt_neox(model, tokens, part, blocks):
    """Both read the same state; their sum is added."""
    body = model.gpt_neox
    state = body.embed_in(tokens)
    rotary = body.rotary_emb(state, torch.arange(tokens.shape[1])[None])
    found = [state]
    for index, layer in enumerate(body.layers):
        attended = layer.attention(layer.input_layernorm(state), causal(), position_embeddings=rotary)[0]
        thought = layer.mlp(layer.post_attention_layernorm(state))
        attended = without_first(attended, part == "attention" and index in blocks)
        state = state + attended + without_first(thought, part == "mlp" and index in blocks)
        found.append(state)
    return found


def bloom(model, tokens, part, blocks):
    """Attention and MLP add the residual themselves: they are given zeros, and it is added here."""
    body = model.transformer
    state = body.word_embeddings_layernorm(body.word_embeddings(tokens))
    alibi = build_alibi_tensor(torch.ones_like(tokens), model.config.n_head, torch.float32)
    found = [state]
    for index, layer in enumerate(body.h):
        nothing = torch.zeros_like(state)
        attended = layer.self_attention(layer.input_layernorm(state), nothing, alibi, causal())[0]
        state = state + without_first(attended, part == "attention" and index in blocks)
        thought = layer.mlp(layer.post_attention_layernorm(state), nothing)
        state = state + without_first(thought, part == "mlp" and index in blocks)
        found.append(state)
    return found
