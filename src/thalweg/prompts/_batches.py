"""Prompts of similar length, together, under a token budget.

Composition changes no number (pads enter no formula); it changes how much is computed for nothing.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from thalweg.errors import DataError
from thalweg.prompts._tokens import Prompt

SLACK = 1.25
TINY = 32


def batches(
    prompts: Iterable[Prompt],
    *,
    token_budget: int,
    batch_size: int | None = None,
    same_side_of: int | None = None,
) -> list[list[Prompt]]:
    """Group prompts by length.

    Sorted by length (rows of equal length keep their order), a batch grows until its padded size would pass the budget,
    its count the batch size, or its padding a quarter of its shortest prompt (up to 32 tokens padding is not counted).

    Args:
        prompts: Any prompts.
        token_budget: Largest ``count x longest``; one prompt that is longer alone goes alone.
        batch_size: Largest count, or None.
        same_side_of: A length that no batch straddles: lengths up to it and lengths above never share a batch. For
            models whose positions change once the padded length passes it.

    Returns:
        Every prompt in exactly one batch, shortest first; the same prompts give the same batches.

    Raises:
        DataError: A budget or batch size below 1.

    Example:
        Lengths 10, 100, 12 under a budget of 200 make the batches (10, 12) and (100,).
    """
    for option, value in (("token_budget", token_budget), ("batch_size", 1 if batch_size is None else batch_size)):
        if value < 1:
            raise DataError(f"{option}: expected 1 or more; got {value}.")
    result: list[list[Prompt]] = []
    for prompt in sorted(prompts, key=len):
        if not result or not _fits(result[-1], len(prompt), token_budget, batch_size, same_side_of):
            result.append([])
        result[-1].append(prompt)
    return result


def padded(batch: Sequence[Prompt], fill: int = 0) -> np.ndarray:
    """Token ids of a batch, padded on the right.

    Args:
        batch: One or more prompts.
        fill: Any valid token id: under a causal mask no real token sees it.

    Returns:
        int64, count x longest.
    """
    tokens = np.full((len(batch), max(map(len, batch))), fill, dtype=np.int64)
    for row, prompt in zip(tokens, batch, strict=True):
        row[: len(prompt)] = prompt.tokens
    return tokens


def _fits(batch: list[Prompt], longest: int, budget: int, size: int | None, switch: int | None) -> bool:
    """Whether a prompt, the longest so far, may join."""
    shortest = len(batch[0])
    return (
        (len(batch) + 1) * longest <= budget
        and (size is None or len(batch) < size)
        and longest <= max(SLACK * shortest, TINY)
        and (switch is None or (shortest <= switch) == (longest <= switch))
    )
