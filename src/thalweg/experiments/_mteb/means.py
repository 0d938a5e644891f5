"""How good is a state over many tasks, and is another state as good.

Conventions: every task counts once, whatever its size; a score that is not finite is left out and ``n`` counts the
rest. Intervals are over tasks: mean -+ t(n - 1) std / sqrt(n) at 97.5%; without two tasks they are NaN. No torch.
"""

import polars as pl

from thalweg.averages import gathered, with_statistics

EVERY_TYPE = "all"
KEY = ["model", "revision", "type", "state"]
PAIRED = {"mean": "behind", "low": "behind_low", "high": "behind_high"}


def task_means(tasks: pl.DataFrame, /) -> pl.DataFrame:
    """Mean score of each state over tasks, and how far it lies behind the best state, task by task.

    The best state has the largest mean among those with most tasks, the first of equal ones. With b_k its score on task
    k and s_k another state's, ``behind`` = mean of b_k - s_k, with the interval of that mean. Another state is *tied*
    with it if that interval reaches down to 0: the tasks do not tell the two apart.

    Args:
        tasks: ``model revision task type state score``, one row for each task and state.

    Returns:
        ``model revision type state mean std low high n behind behind_low behind_high best tied``; type "all" is over
        every task. ``tied`` is null where there is no interval and the scores differ; the best is tied with itself.

    Example:
        Two tasks, two states: scores (0.5, 0.7) and (0.6, 0.9) have means 0.55 and 0.8; state 0 is 0.25 behind, and
        the interval 0.25 -+ 12.7 * 0.05 reaches below 0: tied.
    """
    every = tasks.with_columns(pl.lit(EVERY_TYPE).alias("type"))
    scores = pl.concat([every, tasks.select(every.columns)])
    means = _averaged(scores, "score")
    best = _best(means)
    paired = scores.join(best, on=KEY[:-1]).join(
        scores.select(*KEY[:-1], "task", pl.col("state").alias("best_state"), pl.col("score").alias("most")),
        on=[*KEY[:-1], "task", "best_state"],
    )
    behind = _averaged(paired.with_columns(behind=pl.col("most") - pl.col("score")), "behind")
    columns = [pl.col(statistic).alias(column) for statistic, column in PAIRED.items()]
    table = means.join(behind.select(*KEY, *columns), on=KEY, how="left").join(best, on=KEY[:-1], how="left")
    table = table.with_columns(best=pl.col("state").eq_missing(pl.col("best_state")))
    return table.with_columns(tied=_tied()).select(
        *KEY, "mean", "std", "low", "high", "n", *PAIRED.values(), "best", "tied"
    )


def _averaged(scores: pl.DataFrame, value: str) -> pl.DataFrame:
    return with_statistics(scores.group_by(KEY, maintain_order=True).agg(gathered(value)))


def _best(means: pl.DataFrame) -> pl.DataFrame:
    group = KEY[:-1]
    full = means.filter(pl.col("n") == pl.col("n").max().over(group), pl.col("n") > 0)
    first = full.sort([*group, "mean", "state"], descending=[False, False, False, True, False])
    return first.group_by(group, maintain_order=True).first().select(*group, pl.col("state").alias("best_state"))


def _tied() -> pl.Expr:
    known = pl.when(pl.col("behind_low").is_finite()).then(pl.col("behind_low") <= 0)
    return pl.col("best") | (pl.col("behind") == 0) | known
