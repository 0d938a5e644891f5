"""Tiny models of every family thalweg is proved on, built from their configurations with random weights."""

from collections.abc import Callable

import torch
import transformers as tf
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

WIDTH, HEADS, BLOCKS, VOCABULARY, CONTEXT = 32, 4, 3, 97, 64
COMMON = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
GROUPED = {**COMMON, "num_key_value_heads": 2}

FAMILIES: dict[str, Callable[[], PretrainedConfig]] = {
    "gpt2": lambda: tf.GPT2Config(
        n_embd=WIDTH,
        n_layer=BLOCKS,
        n_head=HEADS,
        n_positions=CONTEXT,
        vocab_size=VOCABULARY,
        bos_token_id=0,
        eos_token_id=1,
    ),
    "gpt_neox": lambda: tf.GPTNeoXConfig(**COMMON),
    "gptj": lambda: tf.GPTJConfig(
        n_embd=WIDTH,
        n_layer=BLOCKS,
        n_head=HEADS,
        n_positions=CONTEXT,
        rotary_dim=4,
        vocab_size=VOCABULARY,
        bos_token_id=0,
        eos_token_id=1,
    ),
    "opt": lambda: tf.OPTConfig(**{**COMMON, "pad_token_id": 1}, ffn_dim=48, word_embed_proj_dim=WIDTH),
    "bloom": lambda: tf.BloomConfig(
        hidden_size=WIDTH, n_layer=BLOCKS, n_head=HEADS, vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=1
    ),
    "codegen": lambda: tf.CodeGenConfig(
        n_embd=WIDTH, n_layer=BLOCKS, n_head=HEADS, n_positions=CONTEXT, rotary_dim=4, vocab_size=VOCABULARY
    ),
    "falcon": lambda: tf.FalconConfig(**COMMON, new_decoder_architecture=False, multi_query=True, parallel_attn=True),
    "mpt": lambda: tf.MptConfig(
        d_model=WIDTH, n_heads=HEADS, n_layers=BLOCKS, max_seq_len=CONTEXT, vocab_size=VOCABULARY
    ),
    "llama": lambda: tf.LlamaConfig(**GROUPED),
    "mistral": lambda: tf.MistralConfig(**GROUPED, sliding_window=5),
    "mixtral": lambda: tf.MixtralConfig(**GROUPED, num_local_experts=4, num_experts_per_tok=2),
    "qwen2": lambda: tf.Qwen2Config(**GROUPED, use_sliding_window=True, sliding_window=6, max_window_layers=1),
    "qwen3": lambda: tf.Qwen3Config(**GROUPED, head_dim=8),
    "gemma": lambda: tf.GemmaConfig(**GROUPED, head_dim=8),
    "gemma2": lambda: tf.Gemma2Config(
        **GROUPED, head_dim=8, sliding_window=5, attn_logit_softcapping=2.0, final_logit_softcapping=3.0
    ),
    "gemma3_text": lambda: tf.Gemma3TextConfig(
        **GROUPED,
        head_dim=8,
        sliding_window=5,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "phi": lambda: tf.PhiConfig(**GROUPED),
    "phi3": lambda: tf.Phi3Config(**GROUPED, sliding_window=7),
    "olmo2": lambda: tf.Olmo2Config(**GROUPED),
    "granite": lambda: tf.GraniteConfig(
        **GROUPED, residual_multiplier=0.22, embedding_multiplier=12.0, logits_scaling=8.0, attention_multiplier=0.2
    ),
    "deepseek_v3": lambda: tf.DeepseekV3Config(
        **COMMON,
        num_key_value_heads=HEADS,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=12,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        moe_intermediate_size=24,
        n_shared_experts=1,
        first_k_dense_replace=1,
    ),
    "gpt_oss": lambda: tf.GptOssConfig(
        **GROUPED,
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=5,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "stablelm": lambda: tf.StableLmConfig(**GROUPED),
    "cohere": lambda: tf.CohereConfig(**GROUPED, logit_scale=0.0625),
    "starcoder2": lambda: tf.Starcoder2Config(**GROUPED),
}


HYBRIDS: dict[str, Callable[[], PretrainedConfig]] = {
    "lfm2": lambda: tf.Lfm2Config(**GROUPED, layer_types=["conv", "full_attention", "conv"]),
    "qwen3_next": lambda: tf.Qwen3NextConfig(
        **GROUPED,
        head_dim=8,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    ),
    "jamba": lambda: tf.JambaConfig(
        **GROUPED,
        use_mamba_kernels=False,
        attn_layer_period=2,
        attn_layer_offset=1,
        num_experts=2,
        expert_layer_period=2,
        mamba_d_state=4,
    ),
    "recurrent_gemma": lambda: tf.RecurrentGemmaConfig(**GROUPED, head_dim=8, lru_width=WIDTH, attention_window_size=6),
}


def window_of(family: str, model: PreTrainedModel, block: int) -> int | None:
    """Sliding window of a block, as its configuration says."""
    config = model.config
    if family == "recurrent_gemma":
        return config.attention_window_size
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and family != "mistral":
        return config.sliding_window if kinds[block] == "sliding_attention" else None
    return getattr(config, "sliding_window", None)


def tiny(family: str, *, seed: int = 0, spread: float = 3.0, blocks: int | None = None) -> PreTrainedModel:
    """A tiny random model; weights are enlarged so that its attention is not uniform."""
    torch.manual_seed(seed)
    config = {**FAMILIES, **HYBRIDS}[family]()
    if blocks is not None:
        config.num_hidden_layers = blocks
    model = AutoModelForCausalLM.from_config(config).eval().float()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                weight.mul_(spread)
            elif "sinks" in name or "bias" in name:
                weight.normal_()
    assert sum(weight.numel() for weight in model.parameters()) < 200_000
    return model


def hooks(model: nn.Module) -> int:
    """How many hooks of any kind all modules carry."""
    return sum(
        len(getattr(module, kind)) for module in model.modules() for kind in vars(module) if kind.endswith("_hooks")
    )
