"""Clipping: the massive row with its coordinates clamped to [-gamma, gamma] (the paper, Fig. 20)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Unpack

from cyclopts import Parameter

from thalweg.experiments._called import takes_options
from thalweg.experiments._clip.tables import TABLES
from thalweg.experiments._declared import Experiment
from thalweg.experiments._keywords import PromptKeywords
from thalweg.experiments._options import BUNDLED_MODEL, DATA, Data, Model, PromptOptions
from thalweg.names import MODEL
from thalweg.options import Switch
from thalweg.store import Findings


@takes_options
def clip(
    model: Annotated[Model, MODEL] = BUNDLED_MODEL,
    data: Annotated[Data | None, DATA] = None,
    *,
    gamma: Annotated[str | Sequence[float] | None, Parameter(allow_leading_hyphen=True)] = None,
    states: str | Sequence[int] | None = None,
    massive_only: Switch = False,
    out: str | Path | None = None,
    options: PromptOptions | None = None,
    **_: Unpack[PromptKeywords],
) -> Findings:
    """Clamp the massive row to [-gamma, gamma], and measure entropy, sinks and loss against gamma.

    It is the row of the compress phase: in each prompt the one that is largest at the phase's peak, found on the first
    64 rows of the data; without massive states the one at the sink position. Every gamma is compared with the model as
    it is, prompt by prompt. Joins the run of a survey with the same options, or makes a run of its own; finished shards
    are not measured again, and a higher ``limit`` extends it. The paper: Fig. 20.

    On the command line:

        thalweg clip

        thalweg clip --gamma 1:1000:13

        thalweg clip EleutherAI/pythia-410m --gamma 10,100 --states 2-6 --massive-only --data gsm8k --limit 100

        thalweg clip runs/pythia-410m

    Args:
        model: hub id, directory or GGUF file; "reference" is the model that comes with thalweg. A run
            stands for its model, its data and how they are read. In Python also a loaded transformers model, with its
            ``tokenizer``.
        data: short names, .jsonl, .parquet, .tsv or .txt files, or hub data sets; by default "bundled", the prompts
            that come with thalweg. On the command line --data may be repeated; in Python also a tuple of these, texts,
            a frame, a ``datasets.Dataset``, or several of them by name.
        gamma: largest magnitudes to leave, as numbers, or "10,100", or a log grid "1:1000:13"; by default 13 from the
            largest coordinate of the other rows to the largest one of this row, and in the same steps on below, until
            less than a tenth of the compression is left.
        states: states to clamp, as numbers or "2-6"; by default after every block.
        massive_only: clamp the massive coordinates alone.
        out: the run directory, ``runs/<model>`` by default; an existing one is continued.
        options: as for a survey.

    Returns:
        The experiment, for reading: tables ``states``, ``blocks`` and ``losses`` by gamma and prompt, gamma infinite
        being the model as it is; ``curves`` (averages and paired differences) and ``sweeps`` (the gammas, and what the
        row is made of).

    Raises:
        UsageError: a gamma that is not above 0, a state that the model does not have; no massive coordinate, and no
            gamma or the massive coordinates alone are asked for; a model, a data set, an option or the directory
            cannot be used; the message says what to do.
        ProofError: the model's states or its logits cannot be told.

    Example:
        >>> curves = clip(gamma="10,100", out="runs/demo").table("curves").collect()  # doctest: +SKIP
        >>> curves.filter(site="compress", metric="compression").select("gamma", "clipped")  # doctest: +SKIP
    """
    from thalweg.experiments._clip.measure import clipped
    from thalweg.experiments._prepare import prepare

    prepared = prepare(model, data, out=out, options=options).of_one_model("clip")
    return clipped(prepared, gamma, states, massive_only=massive_only)


EXPERIMENT = Experiment(
    name="clip",
    tables={"clip": TABLES},
    function=clip,
    group="Intervene",
    answers=("sweeps", "curves"),
    view="thalweg.experiments._clip.view",
)
