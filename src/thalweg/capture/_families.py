"""The one table of what structure alone does not tell, by ``model_type``.

A model whose parts carry the usual names needs no row. Add one where a proof fails and says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

OUTPUT_PROJECTIONS = ("o_proj", "out_proj", "dense", "c_proj", "wo", "Wo", "linear_out", "proj", "proj_out")
"""Names of a head's output projection inside an attention module, most common first."""

FINAL_NORMS = {"lfm2": "embedding_norm", "lfm2_moe": "embedding_norm"}
"""Final norms whose name says something else."""

LOGIT_SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap")
"""Where a configuration keeps the bound of a tanh on the logits."""

KeyValues = Callable[[Any, dict[str, Tensor]], tuple[Tensor, Tensor]]
"""(attention module, outputs of the projections by name) -> key and value, ``batch head token depth``."""


def _bloom(attention: Any, projected: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    fused = projected["query_key_value"].unflatten(-1, (attention.num_heads, 3, attention.head_dim))
    return fused[..., 1, :].transpose(1, 2), fused[..., 2, :].transpose(1, 2)


def _mpt(attention: Any, projected: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    fused = projected["Wqkv"]
    if attention.clip_qkv:
        fused = fused.clamp(-attention.clip_qkv, attention.clip_qkv)
    fused = fused.unflatten(-1, (3, attention.n_heads, attention.head_dim))
    return fused[..., 1, :, :].transpose(1, 2), fused[..., 2, :, :].transpose(1, 2)


def _gptj(attention: Any, projected: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    shape = (attention.num_attention_heads, attention.head_dim)
    key, value = (projected[name].unflatten(-1, shape).transpose(1, 2) for name in ("k_proj", "v_proj"))
    return key, value  # before the rotation, which changes no norm


def _codegen(attention: Any, projected: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    # the fused projection keeps the layout of four accelerators: query, value, key of a quarter of the heads each
    fused = projected["qkv_proj"].unflatten(-1, (4, 3, attention.num_attention_heads // 4, attention.head_dim))
    value, key = (fused[..., index, :, :].flatten(-3, -2).transpose(1, 2) for index in (1, 2))
    return key, value


_INTERFACE = (
    "gpt2 gpt_neox opt llama mistral mixtral qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 olmo2 granite deepseek_v3 "
    "gpt_oss stablelm cohere starcoder2"
)
PROVED = {
    **dict.fromkeys(_INTERFACE.split(), "interface"),
    **dict.fromkeys(("lfm2", "qwen3_next", "jamba", "recurrent_gemma"), "interface, hybrid"),
    "falcon": "torch",
    **dict.fromkeys(("bloom", "codegen", "gptj", "mpt"), "weights"),
}
"""Families that the tests prove against Hugging Face's own numbers, and how their attention is seen. Others are proved
when they are loaded."""


@dataclass(frozen=True)
class OwnWeights:
    """How a model that neither uses the AttentionInterface nor torch's attention is measured: by its own maps."""

    projections: tuple[str, ...]  # modules inside the attention whose outputs give key and value
    key_values: KeyValues = field(repr=False)  # how they do; only norms are taken, so a rotation may be left out


OWN_WEIGHTS: dict[str, OwnWeights] = {
    "bloom": OwnWeights(("query_key_value",), _bloom),
    "mpt": OwnWeights(("Wqkv",), _mpt),
    "gptj": OwnWeights(("k_proj", "v_proj"), _gptj),
    "codegen": OwnWeights(("qkv_proj",), _codegen),
}
