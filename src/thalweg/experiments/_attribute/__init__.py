"""Attribution: which part of which block writes the sink token's row (the paper, Fig. 19)."""

from pathlib import Path
from typing import Annotated, Unpack

from thalweg.experiments._attribute.tables import TABLES
from thalweg.experiments._called import takes_options
from thalweg.experiments._declared import Experiment
from thalweg.experiments._keywords import PromptKeywords
from thalweg.experiments._options import BUNDLED_MODEL, Data, Model, PromptOptions
from thalweg.names import MODEL
from thalweg.store import Findings


@takes_options
def attribute(
    model: Annotated[Model, MODEL] = BUNDLED_MODEL,
    data: Data | None = None,
    *,
    out: str | Path | None = None,
    options: PromptOptions | None = None,
    **_: Unpack[PromptKeywords],
) -> Findings:
    """Say which block's attention or MLP writes the massive activation, and into which dimensions.

    What attention and MLP of each block add to the sink token's row, and the embedding, add up to the last state; that
    they do is checked in every block and prompt. Joins the run of a survey with the same options, or makes a run of its
    own; finished shards are not measured again, and a higher ``limit`` extends it. The paper: Fig. 19.

    On the command line:

        thalweg attribute

        thalweg attribute EleutherAI/pythia-410m --data gsm8k --limit 500 --out runs/pythia-410m

        thalweg attribute runs/pythia-410m

    Args:
        model: hub id, directory or GGUF file; "reference" is the model that comes with thalweg. A run
            stands for its model, its data and how they are read.
        data: short names, .jsonl, .parquet, .tsv or .txt files, or hub data sets; by default "bundled", the prompts
            that come with thalweg. On the command line --data may be repeated.
        out: the run directory, ``runs/<model>`` by default; an existing one is continued.
        options: as for a survey.

    Returns:
        The experiment, for reading: tables ``states``, ``contributions`` and ``dimensions`` by prompt, ``attribution``
        (averages) and ``writers`` (the blocks whose MLPs write the massive row, or why there are none).

    Raises:
        UsageError: a model, a data set, an option or the directory cannot be used; the message says what to do.
        ProofError: the model's blocks are not their input plus attention plus MLP.

    Example:
        >>> attribute(out="runs/demo").table("writers").collect()["writing_blocks"].to_list()  # doctest: +SKIP
        [[1]]
    """
    from thalweg.experiments._attribute.measure import attributed
    from thalweg.experiments._prepare import prepare

    return attributed(prepare(model, data, out=out, options=options))


EXPERIMENT = Experiment(
    name="attribution",
    tables={"attribution": TABLES},
    function=attribute,
    group="Intervene",
    answers=("writers", "attribution"),
    view="thalweg.experiments._attribute.view",
)
