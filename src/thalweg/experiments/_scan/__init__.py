"""Scan: how far the first token's row grows, from the weights alone, since it never sees another token."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Unpack

import thalweg.experiments._columns as shared
from thalweg.errors import UsageError
from thalweg.experiments._called import takes_options
from thalweg.experiments._columns import NUMBER, SMALL, TEXT, WHOLE
from thalweg.experiments._declared import Experiment
from thalweg.experiments._keywords import PassKeywords
from thalweg.experiments._options import BUNDLED_MODEL, Model, PassOptions
from thalweg.names import MODEL
from thalweg.store import Column, Findings, Table, Tables


@takes_options
def scan(
    model: Annotated[Model, MODEL] = BUNDLED_MODEL,
    *,
    first_tokens: str | Sequence[str] = "auto",
    top: int = 20,
    out: str | Path | None = None,
    options: PassOptions | None = None,
    **_: Unpack[PassKeywords],
) -> Findings:
    """Follow the row of a first token through the model, from the weights alone.

    Position 0 never sees another token, so its whole course lies in the weights: one forward pass of one token gives
    its norm at every state, its largest coordinates, its birth (the state of the largest rise of the logarithm of the
    norm) and its death (that of the largest fall after it). Weights are read from the disk block by block, so that a
    model larger than the memory is scanned in the time it takes to read it. One token has no others to compare with:
    whether it is massive, a survey says.

    On the command line:

        thalweg scan

        thalweg scan meta-llama/Llama-3.1-70B

        thalweg scan Qwen/Qwen2.5-0.5B --first-tokens all --top 50

    Args:
        model: hub id, directory or GGUF file; "reference" is the model that comes with thalweg. A run stands for its
            model.
        first_tokens: tokens as texts, such as "The", of which the first token counts; "all": every token of the
            vocabulary, ranked by the norm that it reaches; "auto": the token that prompts begin with, and all where
            there is none.
        top: of all tokens, those whose course is kept.
        out: the run directory, ``runs/<model>`` by default; a run of the same model is joined.
        options: how the model is loaded.

    Returns:
        The experiment, for reading: tables ``tokens`` (one row a token), ``norms`` (by state) and ``coordinates`` (the
        four largest at every state).

    Raises:
        UsageError: a model, a token or the directory cannot be used; the message says what to do.

    Example:
        >>> scan(out="runs/demo").table("tokens").collect()["birth"].to_list()  # doctest: +SKIP
        [2]
    """
    from thalweg.experiments._prepare import prepare
    from thalweg.experiments._scan.measure import scanned

    if top < 1:
        raise UsageError(f"--top is how many tokens are kept, 1 or more; got {top}.")
    prepared = prepare(model, data_of="none", out=out, options=options).of_one_model("scan")
    return scanned(prepared, [first_tokens] if isinstance(first_tokens, str) else list(first_tokens), top)


ID = Column("id", WHOLE, "number of the token in the vocabulary")
TOKEN = (*shared.MODEL_KEY, ID)
TABLES = Tables(
    wholes={
        "tokens": Table(
            "one first token, those that reach the largest norm first",
            (
                *TOKEN,
                Column("token", TEXT, "as the tokenizer writes it"),
                Column("rank", WHOLE, "among all that were scanned, from 1"),
                Column("scanned", WHOLE, "how many these are", "tokens"),
                Column("peak_norm", NUMBER, "largest norm of its row over the states", "activation units"),
                Column("peak_state", SMALL, "where that is, the first if tied", "state"),
                Column("birth", SMALL, "state of the largest rise of ln(norm); null where it never rises", "state"),
                Column("rise", NUMBER, "factor of the norm there"),
                Column("death", SMALL, "state of the largest fall of ln(norm) after it; null where none", "state"),
                Column("fall", NUMBER, "factor of the norm there"),
            ),
        ),
        "norms": Table(
            "one of these tokens and state",
            (*TOKEN, shared.STATE, Column("norm", NUMBER, "norm of the row", "activation units")),
        ),
        "coordinates": Table(
            "one of these tokens, state and rank",
            (
                *TOKEN,
                shared.STATE,
                Column("rank", SMALL, "by magnitude, from 0"),
                Column("dim", WHOLE, "which coordinate", "dimension"),
                Column("value", NUMBER, "of the row there", "activation units"),
            ),
        ),
    },
    main="tokens",
)


EXPERIMENT = Experiment(
    name="scan",
    tables={"scan": TABLES},
    function=scan,
    group="Measure",
    answers=("tokens",),
    view="thalweg.experiments._scan.view",
)
