"""Ablation: without the MLPs that write the massive rows, do sinks and compression go (the paper, section 3.3)?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Unpack

from thalweg.errors import UsageError
from thalweg.experiments._ablate.tables import TABLES
from thalweg.experiments._called import takes_options
from thalweg.experiments._declared import Experiment
from thalweg.experiments._keywords import PromptKeywords
from thalweg.experiments._options import BUNDLED_MODEL, DATA, Data, Model, PromptOptions
from thalweg.names import MODEL
from thalweg.store import Findings


@takes_options
def ablate(
    model: Annotated[Model, MODEL] = BUNDLED_MODEL,
    data: Annotated[Data | None, DATA] = None,
    *,
    blocks: str | Sequence[int] = "auto",
    segment: str | int | None = None,
    seeds: int = 3,
    out: str | Path | None = None,
    options: PromptOptions | None = None,
    **_: Unpack[PromptKeywords],
) -> Findings:
    """Remove what some MLPs add to the massive rows, and say whether compression and sinks go with it.

    Every segment of the model, the compress phase and each wave, has its own row: in each prompt the one that is
    largest at the segment's peak. At these rows each block is removed alone, each segment's own together, and all; and
    each segment is judged on the states that this can reach, prompt by prompt against the model as it is. Negative
    controls (nothing, another position, other blocks) must leave both, positive ones must remove what they take away:
    the row rescaled compression, the row emptied both. Joins the run of a survey with the same options, or makes a run
    of its own; finished shards are not measured again, and a higher ``limit`` extends it. The paper: Figs. 4, 17, 18.

    On the command line:

        thalweg ablate

        thalweg ablate EleutherAI/pythia-410m --blocks 0,5-7 --data gsm8k --limit 500 --out runs/pythia-410m

        thalweg ablate runs/pythia-410m

        thalweg ablate --segment compress

    Args:
        model: hub id, directory or GGUF file; "reference" is the model that comes with thalweg. A run
            stands for its model, its data and how they are read. In Python also a loaded transformers model, with its
            ``tokenizer``.
        data: short names, .jsonl, .parquet, .tsv or .txt files, or hub data sets; by default "bundled", the prompts
            that come with thalweg. On the command line --data may be repeated; in Python also a tuple of these, texts,
            a frame, a ``datasets.Dataset``, or several of them by name.
        blocks: blocks whose MLPs to remove, as numbers or "0,5-7"; "auto": those that write the segments' rows, by
            attribution.
        segment: the only one to ask about: "compress", "wave", "wave 2", or a state inside it.
        seeds: how often each random control is drawn.
        out: the run directory, ``runs/<model>`` by default; an existing one is continued.
        options: as for a survey.

    Returns:
        The experiment, for reading: tables ``states``, ``blocks`` and ``losses`` by condition and prompt; ``effects``
        (averages and paired differences), ``verdicts`` (by condition, segment and phenomenon), ``replacements`` (which
        other row has become massive), ``segments`` and ``conditions`` (what each of them consists of, and which could
        not be run).

    Raises:
        UsageError: a block or segment that the model does not have, or "auto" and no block writes a massive row; a
            model, a data set, an option or the directory cannot be used; the message says what to do.
        ProofError: the model's summands or its logits cannot be told, or an ablation of nothing changes something.

    Example:
        >>> found = ablate(out="runs/demo").table("verdicts").collect()  # doctest: +SKIP
        >>> found.filter(condition="blocks 1")["verdict"].to_list()  # doctest: +SKIP
        ['removed', 'removed']
    """
    from thalweg.experiments._ablate.measure import ablated
    from thalweg.experiments._prepare import prepare

    prepared = prepare(model, data, out=out, options=options).of_one_model("ablate")
    if seeds < 0:
        raise UsageError(f"--seeds is how often each random control is drawn, 0 or more; got {seeds}.")
    return ablated(prepared, blocks, seeds=seeds, segment=segment)


EXPERIMENT = Experiment(
    name="ablation",
    tables={"ablation": TABLES},
    function=ablate,
    group="Intervene",
    answers=("segments", "conditions", "verdicts", "replacements", "effects"),
    view="thalweg.experiments._ablate.view",
)
