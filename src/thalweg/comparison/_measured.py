"""Two sides in numbers: the same prompts found by the hash of their text, differences at every place and head."""

import shlex
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from thalweg.averages import HEAD_PLACES, PLACES, compared, measured_heads, measured_places
from thalweg.comparison._sides import Side
from thalweg.experiments import reading
from thalweg.shown import counted

SHARED = 0.5
"""Share of the prompts of the smaller side that have to be in both, for prompts to be compared with themselves."""
OF_MODEL = ("revision", "dtype", "quantization", "adapter", "bos_token", "chat_template")


@dataclass(frozen=True)
class Compared:
    """Two sides, compared.

    Attributes:
        one: what was.
        other: what is compared with it.
        common: prompts with the same text.
        prompts: how many either side has.
        places: differences at states, at blocks and over the depth; over the depth alone of models of other depth.
        curves: means by state and block of either side.
        heads: differences of heads; empty where the models differ in their heads.
    """

    one: Side
    other: Side
    common: int
    prompts: tuple[int, int]
    places: pl.DataFrame
    curves: tuple[pl.DataFrame, pl.DataFrame]
    heads: pl.DataFrame

    @property
    def paired(self) -> bool:
        """Whether prompts are compared with themselves."""
        return is_paired(self.common, self.prompts)

    @property
    def same_depth(self) -> bool:
        """Whether a state of one is a state of the other."""
        return self.one.pair.blocks == self.other.pair.blocks

    @cached_property
    def differs(self) -> list[str]:
        """How models, data and settings differ, where they do."""
        sides = (self.one, self.other)
        models = [side.run.header.by_name[side.pair.key[:2]] for side in sides]
        said = [(name, getattr(models[0], name), getattr(models[1], name)) for name in OF_MODEL]
        headers = [side.run.header for side in sides]
        said.append(("max_length", headers[0].max_length, headers[1].max_length))
        said += [(name, getattr(headers[0].thresholds, name), value) for name, value in headers[1].thresholds]
        return [
            f"{name.replace('_', ' ')} ({one or 'none'} / {two or 'none'})" for name, one, two in said if one != two
        ]

    @property
    def of_prompts(self) -> str:
        """Of which prompts, and how they are compared."""
        one, other = self.prompts
        if self.paired:
            alone = f", of {one:,} and {other:,}" if {one, other} != {self.common} else ""
            return f"paired by text: {counted(self.common, 'prompt')} in both{alone}"
        return f"not the same prompts ({self.common:,} of {one:,} and {other:,} in both): means are compared, by Welch"

    @property
    def command(self) -> str:
        """What compares them in a terminal."""
        runs = dict.fromkeys(str(side.run.path) for side in (self.one, self.other))
        return shlex.join(["thalweg", "compare", *runs, "--of", self.one.asked, "--with", self.other.asked])

    def named(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows, with what is compared in front."""
        names = {f"{word}_side": pl.lit(side.name) for word, side in (("one", self.one), ("other", self.other))}
        return rows.with_columns(**names, paired=pl.lit(self.paired)).select(*names, "paired", *rows.columns)


def is_paired(common: int, prompts: tuple[int, int]) -> bool:
    """Whether enough prompts are in both: two, and half of the smaller side."""
    return common >= max(2, SHARED * min(prompts))


def measured(one: Side, other: Side) -> Compared:
    """Compare two sides."""
    texts = [_texts(side) for side in (one, other)]
    common = texts[0].join(texts[1], on="text", how="inner").height
    prompts = texts[0].height, texts[1].height
    paired = is_paired(common, prompts)
    places = [_places(side).join(known, on="prompt") for side, known in zip((one, other), texts, strict=True)]
    places = [rows.drop("prompt").rename({"text": "prompt"}) for rows in places]
    curves = [compared(rows, rows, by=PLACES, paired=True) for rows in places]
    same_depth = one.pair.blocks == other.pair.blocks
    at = [rows if same_depth else rows.filter(site="depth") for rows in places]
    differences = compared(*at, by=PLACES, paired=paired)
    heads = [_heads(side).join(known, on="prompt") for side, known in zip((one, other), texts, strict=True)]
    heads = [rows.drop("prompt").rename({"text": "prompt"}) for rows in heads]
    alike = same_depth and _count(one) == _count(other)
    of_heads = compared(*(rows if alike else rows.clear() for rows in heads), by=HEAD_PLACES, paired=paired)
    return Compared(one, other, common, prompts, differences, (curves[0], curves[1]), of_heads)


def _texts(side: Side) -> pl.DataFrame:
    """Prompts with what stands for their text: its hash, and which of several with this hash."""
    with reading(side.run, "prompts"):
        rows = side.run.prompts.filter(side.pair.rows).select("prompt", "sha256").collect()
    twin = pl.int_range(pl.len()).over("sha256").cast(pl.String)
    return rows.select("prompt", text=pl.concat_str("sha256", twin, separator="."))


def _places(side: Side) -> pl.DataFrame:
    run, own = side.run, side.pair.rows
    with reading(run, "what it holds"):
        rows = (table.filter(own) for table in (run.layers, run.heads, run.prompts))
        return measured_places(*rows, tau=run.header.thresholds.tau)


def _heads(side: Side) -> pl.DataFrame:
    with reading(side.run, "heads"):
        return measured_heads(side.run.heads.filter(side.pair.rows))


def _count(side: Side) -> int:
    return side.run.header.by_name[side.pair.key[:2]].heads
