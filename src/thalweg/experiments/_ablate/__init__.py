"""Ablation: without the MLPs that write the massive row, do sinks and compression go (the paper, section 3.3)?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Unpack

from thalweg.errors import UsageError
from thalweg.experiments._ablate.tables import TABLES
from thalweg.experiments._called import takes_options
from thalweg.experiments._declared import Experiment
from thalweg.experiments._keywords import PromptKeywords
from thalweg.experiments._options import BUNDLED_MODEL, Data, Model, PromptOptions
from thalweg.names import MODEL
from thalweg.store import Findings


@takes_options
def ablate(
    model: Annotated[Model, MODEL] = BUNDLED_MODEL,
    data: Data | None = None,
    *,
    blocks: str | Sequence[int] = "auto",
    seeds: int = 3,
    out: str | Path | None = None,
    options: PromptOptions | None = None,
    **_: Unpack[PromptKeywords],
) -> Findings:
    """Remove what some MLPs add to the sink token, and say whether compression and sinks go with it.

    Each block alone and all together, prompt by prompt against the model as it is. Negative controls (nothing, another
    position, other blocks) must leave both, positive ones (the sink's row rescaled; emptied) must remove them. Joins
    the run of a survey with the same options, or makes a run of its own; finished shards are not measured again, and a
    higher ``limit`` extends it. The paper: Figs. 4, 17, 18.

    On the command line:

        thalweg ablate

        thalweg ablate EleutherAI/pythia-410m --blocks 0,5-7 --data gsm8k --limit 500 --out runs/pythia-410m

        thalweg ablate runs/pythia-410m

    Args:
        model: hub id, directory or GGUF file; "reference" is the model that comes with thalweg. A run
            stands for its model, its data and how they are read.
        data: short names, .jsonl, .parquet, .tsv or .txt files, or hub data sets; by default "bundled", the prompts
            that come with thalweg. On the command line --data may be repeated.
        blocks: blocks whose MLPs to remove, as numbers or "0,5-7"; "auto": those that write the massive row, by
            attribution.
        seeds: how often each random control is drawn.
        out: the run directory, ``runs/<model>`` by default; an existing one is continued.
        options: as for a survey.

    Returns:
        The experiment, for reading: tables ``states``, ``blocks`` and ``losses`` by condition and prompt; ``effects``
        (averages and paired differences), ``verdicts`` and ``conditions`` (what each of them consists of, and which
        control could not be run).

    Raises:
        UsageError: a block that the model does not have, or "auto" and no block writes a massive row; a model, a data
            set, an option or the directory cannot be used; the message says what to do.
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
    return ablated(prepared, blocks, seeds=seeds)


EXPERIMENT = Experiment(
    name="ablation",
    tables={"ablation": TABLES},
    function=ablate,
    group="Intervene",
    answers=("conditions", "verdicts", "effects"),
    view="thalweg.experiments._ablate.view",
)
