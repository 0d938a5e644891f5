"""Heads: on one prompt, attention maps of chosen heads, with numbers (the paper, Figs. 6, 33, 34), and its tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Unpack

from thalweg.errors import UsageError
from thalweg.experiments._called import takes_options
from thalweg.experiments._declared import Experiment
from thalweg.experiments._heads.tables import TABLES
from thalweg.experiments._keywords import PromptKeywords
from thalweg.experiments._options import BUNDLED_MODEL, DATA, Data, Model, PromptOptions
from thalweg.names import MODEL
from thalweg.store import Findings


@takes_options
def heads(
    model: Annotated[Model, MODEL] = BUNDLED_MODEL,
    data: Annotated[Data | None, DATA] = None,
    *,
    prompt: int = 0,
    blocks: str | Sequence[int] | None = None,
    heads: str | Sequence[int] = "auto",
    max_map: int = 512,
    out: str | Path | None = None,
    options: PromptOptions | None = None,
    **_: Unpack[PromptKeywords],
) -> Findings:
    """Keep the attention maps of some heads on one prompt, with what is measured of each head and token there.

    By default, of every phase of the model, as a survey in the same run tells it, the head that comes nearest to each
    pattern on this prompt: diffuse (the largest normalized mixing), sink (the largest sink score), identity (the
    largest attention to the token itself), previous token, and sink elsewhere (the largest score of a token that is not
    the sink position). Without a survey, or without phases, the same over all blocks. Maps are computed block by block,
    for the chosen heads alone, and kept as one byte a cell. Of every token the norm of its row at each state, the
    attention that it receives in each block, over all heads, and where it looks most in each chosen head are kept too;
    a report colours the prompt by them. The paper: Figs. 6, 33, 34.

    On the command line:

        thalweg heads

        thalweg heads runs/pythia-410m --prompt 7

        thalweg heads EleutherAI/pythia-410m --data gsm8k --blocks 0,16,23 --heads all

        thalweg heads EleutherAI/pythia-410m --data gsm8k --blocks 16 --heads 0,3-5

    Args:
        model: hub id, directory or GGUF file; "reference" is the model that comes with thalweg. A run
            stands for its model, its data and how they are read. In Python also a loaded transformers model, with its
            ``tokenizer``.
        data: short names, .jsonl, .parquet, .tsv or .txt files, or hub data sets; by default "bundled", the prompts
            that come with thalweg. On the command line --data may be repeated; in Python also a tuple of these, texts,
            a frame, a ``datasets.Dataset``, or several of them by name.
        prompt: number of the row of the data as read, from 0, whatever is measured otherwise.
        blocks: blocks whose heads are looked at, as numbers or "0,16,23"; by default all, with "auto" alone.
        heads: "auto": by pattern; "all": every head of these blocks; or heads of each of them, as numbers or "0,3-5".
        max_map: longest prompt whose maps are kept, in tokens: a map has as many rows and columns.
        out: the run directory, ``runs/<model>`` by default; an existing one is continued.
        options: as for a survey.

    Returns:
        The experiment, for reading: tables ``heads`` (one row a chosen head, with its numbers), ``maps`` (their maps),
        ``tokens`` (the prompt's), ``token_states``, ``token_blocks`` and ``token_heads`` (what each token does there).

    Raises:
        UsageError: there is no such prompt, block or head, the prompt is too long, or a model, a data set, an option or
            the directory cannot be used; the message says what to do.

    Example:
        >>> found = heads(blocks=[1], heads=[0], out="runs/demo")  # doctest: +SKIP
        >>> found.table("heads").collect()["top_position"].to_list()  # doctest: +SKIP
        [0]
    """
    from thalweg.experiments._heads.measure import asked_of, mapped
    from thalweg.experiments._prepare import prepare

    for name, value, least in (("--prompt", prompt, 0), ("--max-map", max_map, 1)):
        if value < least:
            raise UsageError(f"{name} must be at least {least}; got {value}.")
    prepared = prepare(model, data, out=out, options=options).of_one_model("heads")
    return mapped(prepared, asked_of(prepared, prompt, blocks, heads, max_map))


EXPERIMENT = Experiment(
    name="maps",
    tables={"maps": TABLES},
    function=heads,
    group="Measure",
    answers=("heads",),
    view="thalweg.experiments._heads.view",
)
