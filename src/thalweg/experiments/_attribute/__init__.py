"""Attribution: which part of which block writes the massive rows, and which erases them (the paper, Fig. 19)."""

from pathlib import Path
from typing import Annotated, Unpack

from thalweg.experiments._attribute.tables import TABLES
from thalweg.experiments._called import takes_options
from thalweg.experiments._declared import Experiment
from thalweg.experiments._keywords import PromptKeywords
from thalweg.experiments._options import BUNDLED_MODEL, DATA, Data, Model, PromptOptions
from thalweg.names import MODEL
from thalweg.store import Findings


@takes_options
def attribute(
    model: Annotated[Model, MODEL] = BUNDLED_MODEL,
    data: Annotated[Data | None, DATA] = None,
    *,
    segment: str | int | None = None,
    out: str | Path | None = None,
    options: PromptOptions | None = None,
    **_: Unpack[PromptKeywords],
) -> Findings:
    """Say which block's attention or MLP writes the massive rows, into which dimensions, and which erases them.

    Every segment of the model, the compress phase and each wave, has its own row: in each prompt the one that is
    largest at the segment's peak. What attention and MLP of each block add to it, and the embedding, add up to the last
    state; that they do is checked in every block and prompt. Segments are found on the first 64 rows of the data.
    Joins the run of a survey with the same options, or makes a run of its own; finished shards are not measured again,
    and a higher ``limit`` extends it. The paper: Fig. 19.

    On the command line:

        thalweg attribute

        thalweg attribute EleutherAI/pythia-410m --data gsm8k --limit 500 --out runs/pythia-410m

        thalweg attribute runs/pythia-410m

        thalweg attribute --segment compress

    Args:
        model: hub id, directory or GGUF file; "reference" is the model that comes with thalweg. A run
            stands for its model, its data and how they are read. In Python also a loaded transformers model, with its
            ``tokenizer``.
        data: short names, .jsonl, .parquet, .tsv or .txt files, or hub data sets; by default "bundled", the prompts
            that come with thalweg. On the command line --data may be repeated; in Python also a tuple of these, texts,
            a frame, a ``datasets.Dataset``, or several of them by name.
        segment: the only one to ask about: "compress", "wave", "wave 2", or a state inside it.
        out: the run directory, ``runs/<model>`` by default; an existing one is continued.
        options: as for a survey.

    Returns:
        The experiment, for reading: tables ``states``, ``contributions`` and ``dimensions`` by prompt and segment,
        ``attribution`` (averages), ``writers`` (the blocks whose MLPs write each segment's row, or why there are none,
        and the parts that erase it) and ``segments``.

    Raises:
        UsageError: a model, a data set, an option or the directory cannot be used, or there is no such segment; the
            message says what to do.
        ProofError: the model's blocks are not their input plus attention plus MLP.

    Example:
        >>> attribute(out="runs/demo").table("writers").collect()["writing_blocks"].to_list()  # doctest: +SKIP
        [[1]]
    """
    from thalweg.experiments._attribute.measure import attributed
    from thalweg.experiments._prepare import prepare

    return attributed(prepare(model, data, out=out, options=options), segment=segment)


EXPERIMENT = Experiment(
    name="attribution",
    tables={"attribution": TABLES},
    function=attribute,
    group="Intervene",
    answers=("writers", "attribution"),
    view="thalweg.experiments._attribute.view",
)
