"""``thalweg survey``."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from thalweg.cli._memory import memory_limits
from thalweg.cli._tables import print_json, print_table

__all__ = ["survey"]

BOUND_VIOLATED = 4


def survey(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Hub ids or directories. Default: planted, the bundled model."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Short name, .jsonl, .parquet, .tsv or .txt file, or hub data set. May be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory; an existing one is continued. Default: runs/MODEL.")
    ] = None,
    text_field: Annotated[str | None, typer.Option(help="Field that holds the text; several joined by +.")] = None,
    whole_file: Annotated[bool, typer.Option("--whole-file", help="Make one prompt of a .txt file.")] = False,
    limit: Annotated[int | None, typer.Option(help="First rows of the data to measure.")] = None,
    max_length: Annotated[int, typer.Option(help="Longest prompt in tokens; longer ones are cut.")] = 1024,
    bos: Annotated[
        Literal["auto", "always", "never"],
        typer.Option(help="Beginning-of-sequence token: as the tokenizer does, or not."),
    ] = "auto",
    tau: Annotated[float, typer.Option(help="Sink score from which a head is a sink.")] = 0.3,
    sink_position: Annotated[int, typer.Option(help="Position of the sink token.")] = 0,
    massive_ratio: Annotated[float, typer.Option(help="Row norm over median row norm of a massive row.")] = 10.0,
    variants: Annotated[bool, typer.Option("--variants", help="Also measure other authors' entropies.")] = False,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Keep the prompts' text in the run.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    dtype: Annotated[str, typer.Option(help="auto (as saved), float32, float64, bfloat16 or float16.")] = "auto",
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: cuda where there is one.")
    ] = None,
    device_map: Annotated[str | None, typer.Option(help="auto: spread the model over devices, memory, disk.")] = None,
    max_memory: Annotated[
        list[str] | None, typer.Option(help="Limit for --device-map, as cpu=8GiB or 0=20GiB. May be repeated.")
    ] = None,
    offload_folder: Annotated[str | None, typer.Option(help="Where blocks that fit nowhere are kept.")] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pickled weights; they can run code.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the code that comes with a model.")
    ] = False,
    engine: Annotated[Literal["local"], typer.Option(help="What runs the shards.")] = "local",
    batch_tokens: Annotated[
        int | None, typer.Option(help="Padded tokens of a forward pass; changes no number.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Prompts of a forward pass at most.")] = None,
    seed: Annotated[int, typer.Option(help="Written into the run.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the profile's summary as JSON.")] = False,
) -> None:
    """Measure every state and every attention head of MODEL on prompts, layer by layer.

    Examples:
        thalweg survey

        thalweg survey EleutherAI/pythia-410m --data gsm8k --limit 500

        thalweg survey ./model-a ./model-b --data prompts.jsonl --data notes.txt --out runs/two

    The paper's setting: --data gsm8k --max-length 1024 --tau 0.3. A run that was stopped goes on with the same command.
    """
    from thalweg.experiments import SurveyOptions  # torch is loaded here and not for --help
    from thalweg.experiments import survey as run_survey

    options = SurveyOptions(
        text_field=text_field,
        whole_file=whole_file,
        limit=limit,
        max_length=max_length,
        bos=bos,
        revision=revision,
        dtype=dtype,
        device=device,
        device_map=device_map,
        max_memory=memory_limits(max_memory),
        offload_folder=offload_folder,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        tau=tau,
        sink_position=sink_position,
        massive_ratio=massive_ratio,
        variants=variants,
        keep_text=keep_text,
        seed=seed,
        engine=engine,
        batch_tokens=batch_tokens,
        batch_size=batch_size,
    )
    run = run_survey(models or ["planted"], data or ["bundled"], out=out, options=options)
    if as_json:
        print_json(_summary(run))
    else:
        _print(run)
    held = max((pair.rows_read for pair in run.header.coverage), default=0)
    if limit is not None and held > limit:
        typer.echo(f"the run already held {held} rows; all of them are in its tables, whatever --limit says.", err=True)
    if run.header.bound_violations:
        raise typer.Exit(BOUND_VIOLATED)


def _summary(run: Any) -> dict[str, Any]:
    return {
        "run": str(run.path),
        "status": run.header.status,
        "bound_violations": run.header.bound_violations,
        "coverage": [pair.model_dump() for pair in run.header.coverage],
        "phases": run.phases.collect().to_dicts(),
        "coupling": run.coupling.collect().to_dicts(),
    }


def _print(run: Any) -> None:
    from thalweg.figures import DEPTH_COLUMNS, depth_table

    for title, rows in depth_table(run):
        print_table(list(DEPTH_COLUMNS), rows, title=title)
        typer.echo()
    if run.header.short_prompts:
        typer.echo(
            f"{run.header.short_prompts} prompts are too short for a sink rate: a uniform head passes tau.", err=True
        )
    if run.header.nonfinite_states:
        typer.echo(f"{run.header.nonfinite_states} states hold NaN or Inf; their rows carry NaN.", err=True)
    if run.header.bound_violations:
        typer.echo(f"{run.header.bound_violations} states violate a bound of the theory: please report it.", err=True)
    typer.echo(f"run: {run.path}    look at it: thalweg report {run.path}")
