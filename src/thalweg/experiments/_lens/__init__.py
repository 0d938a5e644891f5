"""Lenses: what every state predicts, of text, all states from one forward pass (the paper, Figs. 8 and 28)."""

from pathlib import Path
from typing import Annotated, Unpack

from cyclopts import Parameter

from thalweg.errors import UsageError
from thalweg.experiments._called import takes_options
from thalweg.experiments._declared import Experiment
from thalweg.experiments._keywords import PromptKeywords
from thalweg.experiments._lens.tables import TABLES, TRAINING_TABLES
from thalweg.experiments._options import BUNDLED_MODEL, DATA, LENS, Data, Model, PromptOptions, switched_off_by
from thalweg.names import MODEL
from thalweg.store import Findings

STEP_TOKENS = 2**14


@takes_options
def lens(
    model: Annotated[Model, MODEL] = BUNDLED_MODEL,
    data: Annotated[Data | None, DATA] = None,
    *,
    tuned: Annotated[str | Path | None, LENS] = None,
    train: Annotated[bool, Parameter(name="--train-tuned", show_default=False)] = False,
    steps: int = 250,
    step_tokens: int = STEP_TOKENS,
    learning_rate: float = 1.0,
    final_norm: Annotated[bool, switched_off_by("--no-final-norm")] = True,
    blocks: Annotated[bool | None, Parameter(negative="--no-blocks")] = None,
    block_length: int | None = None,
    out: str | Path | None = None,
    options: PromptOptions | None = None,
    **_: Unpack[PromptKeywords],
) -> Findings:
    """Read every state as a prediction of the next token: perplexity, entropy, agreement with the last state.

    The model runs once a prompt for all states. Joins any run of the model, with its data or others, or makes a run of
    its own; finished shards are not measured again, and a higher ``limit`` extends it. The paper: Figs. 8 and 28.

    On the command line:

        thalweg lens

        thalweg lens EleutherAI/pythia-410m --data wikitext2

        thalweg lens runs/pythia-410m --data wikitext2

        thalweg lens EleutherAI/pythia-410m --data wikitext2 --tuned AlignmentResearch/tuned-lens

        thalweg lens MODEL --train-tuned --data train.jsonl --steps 250 --out runs/x

    Args:
        model: hub id, directory or GGUF file; "reference" is the model that comes with thalweg. A run
            stands for its model, its data and how they are read. In Python also a loaded transformers model, with its
            ``tokenizer``.
        data: short names, .jsonl, .parquet, .tsv or .txt files, or hub data sets; by default "bundled", the prompts
            that come with thalweg. On the command line --data may be repeated; in Python also a tuple of these, texts,
            a frame, a ``datasets.Dataset``, or several of them by name.
        tuned: a tuned lens: a directory, a run in which one was trained, or "AlignmentResearch/tuned-lens" for the one
            that is published for the model. The logit lens by default.
        train: train a tuned lens on the data, and read nothing.
        steps: of the training.
        step_tokens: tokens of a step of the training; the published lenses took 262144.
        learning_rate: of the training, at the first step; falls to 0.
        final_norm: end the logit lens with the final norm; ``--no-final-norm`` leaves it out. Agreement and KL are to
            the model itself in any case.
        blocks: join the rows to one text and cut it into blocks, or score row by row; by default blocks for lines of a
            .txt file and WikiText-2. With blocks, ``limit`` counts them.
        block_length: tokens of a block; the model's context by default, 2048 where it has none.
        out: the run directory, ``runs/<model>`` by default; an existing one is continued.
        options: as for a survey.

    Returns:
        The experiment, for reading: tables ``lens`` (sums by prompt and state over tokens 1..T-1) and ``curves``
        (averages by state, every token counting once; perplexity is exp(loss)). With ``train`` what
        ``thalweg.train_tuned`` returns.

    Raises:
        UsageError: a model, a data set, an option, the directory or the tuned lens cannot be used; the message says
            what to do.
        ProofError: the model's unembedding cannot be told.

    Example:
        >>> curves = lens(out="runs/demo").table("curves").collect()  # doctest: +SKIP
        >>> curves.filter(metric="perplexity").select("state", "value")  # doctest: +SKIP
    """
    from thalweg.experiments._lens.measure import lensed
    from thalweg.experiments._over_prompts import length_of_blocks
    from thalweg.experiments._prepare import prepare
    from thalweg.lenses import choose_lens

    if train:
        if tuned is not None or not final_norm:
            what = "--tuned" if final_norm else "--no-final-norm"
            raise UsageError(
                f"--train-tuned trains a lens and {what} is about reading one; run them one after the other."
            )
        schedule = {"steps": steps, "step_tokens": step_tokens, "learning_rate": learning_rate}
        return train_tuned(model, data, **schedule, blocks=blocks, block_length=block_length, out=out, options=options)
    prepared = prepare(model, data, data_of="own", out=out, options=options).of_one_model("lens")
    block = length_of_blocks(prepared, blocks, block_length)
    return lensed(prepared, choose_lens(tuned, prepared.model, final_norm=final_norm), block)


@takes_options
def train_tuned(
    model: Annotated[Model, MODEL] = BUNDLED_MODEL,
    data: Annotated[Data | None, DATA] = None,
    *,
    steps: int = 250,
    step_tokens: int = STEP_TOKENS,
    learning_rate: float = 1.0,
    blocks: bool | None = None,
    block_length: int | None = None,
    out: str | Path | None = None,
    options: PromptOptions | None = None,
    **_: Unpack[PromptKeywords],
) -> Findings:
    """Train translators for every state before the last, so that what is read there comes near the model's own word.

    The recipe is that of Belrose et al. 2023 (:class:`thalweg.lenses.Recipe`). The data is read in its own order, from
    the beginning again when it ends. A training that was stopped goes on from its last snapshot, at most a minute
    old, to the same translators as if it had not been.

    Args:
        model: as for :func:`lens`, also a loaded one.
        data: one data set, by name or in memory.
        steps: of the optimiser.
        step_tokens: tokens of a step; the published lenses took 262,144.
        learning_rate: at the first step; falls linearly to 0.
        blocks: as for :func:`lens`.
        block_length: as for :func:`lens`.
        out: the run directory; ``runs/<model>`` by default.
        options: as for a survey.

    Returns:
        The experiment, for reading: table ``training``, KL by step and state. The lens is in the directory
        :func:`trained_lens`.

    Raises:
        UsageError: a model, the data, an option or the directory cannot be used; the message says what to do.
        ProofError: the model's unembedding cannot be told.
        KeyboardInterrupt: the last snapshot stays.

    Example:
        >>> train_tuned("gpt2", "train.jsonl", steps=250, out="runs/gpt2")  # doctest: +SKIP
    """
    from thalweg.experiments._lens.training import Schedule, trained
    from thalweg.experiments._over_prompts import length_of_blocks
    from thalweg.experiments._prepare import prepare
    from thalweg.lenses import Recipe

    prepared = prepare(model, data, data_of="own", out=out, options=options)
    if len(prepared.models) != 1 or len(prepared.sources) != 1:
        raise UsageError("--train-tuned takes one model and one data set.")
    recipe = Recipe(steps=steps, learning_rate=learning_rate)
    return trained(prepared, Schedule(recipe, step_tokens, length_of_blocks(prepared, blocks, block_length)))


EXPERIMENT = Experiment(
    name="lens",
    tables={"lens": TABLES, "tuned_lens": TRAINING_TABLES},
    function=lens,
    group="Downstream",
    answers=("curves",),
    view="thalweg.experiments._lens.view",
    outcome="thalweg.experiments._lens.view",
)
