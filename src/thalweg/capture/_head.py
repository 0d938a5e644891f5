"""The way from X(L) to logits of a loaded model, ready to be used: proved, and solved for once."""

import torch
from torch import Tensor

from thalweg.capture._blocks import unwrap
from thalweg.capture._observe import Subject
from thalweg.capture._proof import proof_tokens, require
from thalweg.capture._unembedding import Unembedding, find_unembedding
from thalweg.errors import ProofError


@torch.no_grad()
def unembedding_of(subject: Subject) -> Unembedding:
    """Final norm and unembedding, with the model's own scale and soft cap.

    Raises:
        ProofError: they do not give the model's own logits.
    """
    require(subject, "unembedding")
    tokens, left = proof_tokens(subject), list[Tensor | None]()
    parts = subject.parts
    handle = parts.blocks[-1].module.register_forward_hook(lambda _, __, output: left.append(unwrap(output)))
    try:
        logits = subject.model(input_ids=tokens, use_cache=False).logits
    finally:
        handle.remove()
    state = left[0]
    if state is None or parts.unembedding is None:
        raise ProofError("the model's last block or its unembedding returned no tensor.")
    return find_unembedding(subject.model, parts.final_norm, parts.unembedding, state, logits)
