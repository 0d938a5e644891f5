"""``thalweg mcq``."""

from typing import Annotated, Any, Literal

import typer

from thalweg.cli._experiment import print_experiment, say_run
from thalweg.cli._options import (
    DEFAULT_MODEL,
    LOADING,
    MEASURING,
    AsJson,
    Model,
    NoFinalNorm,
    Out,
    Shared,
    Tuned,
    sharing,
)
from thalweg.cli._tables import print_table, printable

READING = {"bos": MEASURING["bos"]}
BATCHES = {name: MEASURING[name] for name in ("batch_tokens", "batch_size")}


@sharing({**READING, **LOADING, **BATCHES})
def mcq(
    model: Model = DEFAULT_MODEL,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            "--tasks",
            help="Task, group, tag or pattern of lm-eval, or a YAML file; several by commas or repeated. "
            "Default: arc_easy.",
        ),
    ] = None,
    num_fewshot: Annotated[
        int | None, typer.Option(help="Solved examples before each question. Default: what the task says.")
    ] = None,
    limit: Annotated[float | None, typer.Option(help="First questions of each task; below 1 a share of them.")] = None,
    include_path: Annotated[
        list[str] | None, typer.Option(help="Directory with YAML files of your own tasks. May be repeated.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Longest request in tokens, cut at the left. Default: the model's own.")
    ] = None,
    cache_requests: Annotated[
        Literal["true", "refresh", "delete"] | None, typer.Option(help="lm-eval's own cache of prompts.")
    ] = None,
    tuned: Tuned = None,
    no_final_norm: NoFinalNorm = False,
    out: Out = None,
    *,
    shared: Shared,
    as_json: AsJson = False,
) -> None:
    """Let every state answer multiple choice through a lens, and have lm-eval score each of them.

    Examples:
        thalweg mcq EleutherAI/pythia-410m --task arc_easy --task hellaswag --num-fewshot 0 --out runs/pythia-410m

        thalweg mcq MODEL --task my_arc --include-path ./tasks --limit 100

        thalweg mcq EleutherAI/pythia-410m --task arc_easy --tuned AlignmentResearch/tuned-lens

    The last state's scores are those that lm_eval gives the model; the model runs once for all states. Joins a run of
    the same model, or makes one. Needs the extra lm-eval. The paper: Figs. 29 and 30.
    """
    from thalweg.experiments import SurveyOptions  # torch is loaded here and not for --help
    from thalweg.experiments import mcq as run_mcq

    found = run_mcq(
        model,
        [name.strip() for one in task or ["arc_easy"] for name in one.split(",") if name.strip()],
        num_fewshot=num_fewshot,
        limit=limit,
        include_path=include_path or [],
        max_length=max_length,
        cache_requests=cache_requests,
        tuned=tuned,
        final_norm=not no_final_norm,
        out=out,
        options=SurveyOptions(**shared),
    )
    if as_json:
        print_experiment(found, _answers(found), ("scores",))
    else:
        _print(found)


def _answers(found: Any) -> list[str]:
    from thalweg.figures import mcq_answers
    from thalweg.store import open_run

    return mcq_answers(open_run(found.run), found)


def _print(found: Any) -> None:
    from thalweg.figures import mcq_facts, mcq_tables

    for (title, columns, rows), answer in zip(mcq_tables(found), _answers(found), strict=True):
        print_table(columns, rows, title=title)
        typer.echo()
        typer.echo(printable(f"{answer}."))
        typer.echo()
    typer.echo(printable(f"{mcq_facts(found)}."))
    say_run(found)
