"""What moved between two runs, or between two models, revisions, quantizations or data sets of one?

In reading order: ``_sides`` what is compared with what · ``_measured`` the same prompts, place by place, in numbers ·
``_view`` what a person is shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from cyclopts import Parameter

from thalweg.comparison._measured import Compared
from thalweg.paths import path_here
from thalweg.store import Run, open_run, os_errors_as_run_errors

__all__ = ["Compared", "Comparison", "compare", "compared_in"]


@dataclass(frozen=True)
class Comparison:
    """What moved.

    Attributes:
        compared: one for each model and data set that was compared with another.
        figures: the files that were drawn.
    """

    compared: Sequence[Compared]
    figures: Sequence[Path] = ()

    @property
    def sections(self) -> list[Any]:
        """What a person is shown."""
        from thalweg.comparison._view import sections

        return [section for number, each in enumerate(self.compared) for section in sections(each, number)]

    @property
    def sentences(self) -> list[str]:
        """What moved, in words."""
        return [sentence for section in self.sections for sentence in section.sentences]

    def _repr_html_(self) -> str:
        from thalweg.shown import section_html

        return "".join(map(section_html, self.sections))

    @property
    def places(self) -> pl.DataFrame:
        """Every difference at a state, at a block and over the depth."""
        return pl.concat([each.named(each.places) for each in self.compared])

    @property
    def heads(self) -> pl.DataFrame:
        """Every difference of a head; none where models differ in their heads."""
        return pl.concat([each.named(each.heads) for each in self.compared])


def compare(
    run: Run | str | Path,
    other: Run | str | Path | None = None,
    /,
    *,
    of: str | None = None,
    with_: Annotated[str | None, Parameter(name="--with")] = None,
    path: Annotated[str | Path | None, Parameter(name="--out")] = None,
) -> Comparison:
    """Say what moved from one run to another, or between two models or data sets of one run, state by state and head.

    Prompts with the same text are compared with themselves, where at least half of them are in both; else means are
    compared, as of different data, which is said. What has moved has a Holm-adjusted p below 0.05 over all places of
    the metric and a difference of at least 1%, of shares at least 0.01; all else is unchanged. Models of different
    depth are compared over the whole depth, their phases in words and their curves by share of depth; their heads are
    not.

    On the command line:

        thalweg compare runs/bfloat16 runs/q4

        thalweg compare runs/two --of gpt2 --with pythia-410m

        thalweg compare runs/two --of gsm8k --with hellaswag --out figures/data

    Args:
        run: a run or its directory; what was.
        other: another one, which is compared with it; by default the same.
        of: model, model@revision, data set, or "model on data set" of the first run.
        with_: the same of what is compared with it.
        path: a folder for figures; nothing is drawn by default.

    Returns:
        The comparison: ``.places`` and ``.heads`` are polars frames, ``.sentences`` what moved.

    Raises:
        UsageError: there is no such run, they have nothing in common, or it is not clear what is compared.

    Example:
        >>> compare("runs/bfloat16", "runs/q4").sentences  # doctest: +SKIP
    """
    from thalweg.comparison._measured import measured
    from thalweg.comparison._sides import sides

    runs = [given if isinstance(given, Run) else open_run(given) for given in (run, other) if given is not None]
    comparison = Comparison([measured(one, two) for one, two in sides(runs[0], runs[-1], of, with_)])
    return comparison if path is None else Comparison(comparison.compared, _drawn(comparison, path_here("--out", path)))


def compared_in(run: Run, against: Run | None = None) -> Comparison:
    """Compare what a page of a run shows: with another run, or with the first of its own models or data sets.

    Args:
        run: what is compared; nothing of a run with one model on one data set.
        against: what was.

    Raises:
        RunError: the two have nothing in common, or one holds no surveyed prompt.
    """
    from thalweg.comparison._measured import measured
    from thalweg.comparison._sides import sides_against_first

    if against is None and sum(bool(pair.prompts_kept) for pair in run.coverage) < 2:
        return Comparison(())
    return Comparison([measured(one, two) for one, two in sides_against_first(against or run, run)])


def _drawn(comparison: Comparison, directory: Path) -> list[Path]:
    from thalweg.figures import save_section

    with os_errors_as_run_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    drawn = (section for section in comparison.sections if section.panels)
    return [file for section in drawn for file in save_section(section, directory, section.name)]
