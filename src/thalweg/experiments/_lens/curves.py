"""What do the states of a model predict, averaged over prompts: every token counts once.

Conventions: a row holds sums over the scored tokens of one prompt at one state; averages are sums over sums, so that a
long prompt counts more than a short one and blocks of one text give the perplexity of the text. A sum that is not
finite leaves its prompt out of that metric. No torch.
"""

import math

import numpy as np
import polars as pl

from thalweg.averages import KEYS, t_quantile

QUANTITIES = ("loss", "output_entropy", "agreement", "kl")
COLUMNS = [*KEYS, "state", "metric", "value", "low", "high", "scored", "n"]


def lens_curves(rows: pl.LazyFrame) -> pl.DataFrame:
    """Average the rows of a lens over prompts: every token counts once, so a long prompt counts more than a short one.

    Loss, output entropy, agreement and KL are sum over sum; perplexity is exp(loss), and so are the ends of its
    interval. The interval is that of a ratio of two sums over prompts: with S_i the sum of prompt i over n_i tokens,
    m = sum S / sum n and e_i = S_i - m n_i, m -+ t(N - 1) sqrt(N / (N - 1) sum e_i^2) / sum n at 97.5%.

    Args:
        rows: table ``lens``: by prompt and state ``scored`` and the sums.

    Returns:
        Columns ``model revision data state metric value low high scored n``; a prompt that is not finite is left out
        of its metric, ``scored`` and ``n`` count what entered; without two prompts ``low`` and ``high`` are NaN.

    Example:
        Prompts of 1 and 3 tokens with loss sums 2 and 3: loss 5 / 4, perplexity exp(1.25) = 3.49.
    """
    table = rows.filter(pl.col("scored") > 0).collect()
    curves = [
        {**dict(zip([*KEYS, "state"], key, strict=True)), **row}
        for key, prompts in table.group_by([*KEYS, "state"], maintain_order=True)
        for row in _curve(prompts)
    ]
    return pl.DataFrame(curves, infer_schema_length=None).select(COLUMNS) if curves else pl.DataFrame(schema=COLUMNS)


def _curve(prompts: pl.DataFrame) -> list[dict[str, str | float | int]]:
    counts = prompts["scored"].to_numpy().astype(np.float64)
    rows = [{"metric": name, **_ratio(prompts[f"{name}_sum"].to_numpy(), counts)} for name in QUANTITIES]
    with np.errstate(over="ignore"):
        powers = {name: float(np.exp(rows[0][name])) for name in ("value", "low", "high")}
    return [rows[0], {**rows[0], **powers, "metric": "perplexity"}, *rows[1:]]


def _ratio(sums: np.ndarray, counts: np.ndarray) -> dict[str, float | int]:
    usable = np.isfinite(sums)
    sums, counts, prompts = sums[usable], counts[usable], int(usable.sum())
    scored = math.fsum(counts)
    mean = math.fsum(sums) / scored if prompts else math.nan
    half = math.nan
    if prompts > 1:
        spread = math.fsum((sums - mean * counts) ** 2) * prompts / (prompts - 1)
        half = float(t_quantile(prompts)) * math.sqrt(spread) / scored
    return {"value": mean, "low": mean - half, "high": mean + half, "scored": int(scored), "n": prompts}
