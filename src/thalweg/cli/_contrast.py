"""``thalweg contrast``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from thalweg.cli._experiment import print_experiment, say_run
from thalweg.cli._options import DEFAULT_MODEL, MEASURING, AsJson, Data, Shared, sharing
from thalweg.cli._tables import print_table, printable

OPTIONS = {name: option for name, option in MEASURING.items() if name != "max_length"}
"""``--length`` is what prompts are cut to."""

ModelOrRun = Annotated[
    str,
    typer.Argument(
        metavar="MODEL|RUN",
        help="A finished run, or a hub id or directory. Default: reference, which comes with thalweg.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Run directory for a MODEL; an existing one is continued. Default: runs/MODEL-contrast-LENGTH."),
]


@sharing(OPTIONS)
def contrast(
    model: ModelOrRun = DEFAULT_MODEL,
    data: Data = None,
    length: Annotated[
        str | None,
        typer.Option(
            help="Tokens that every prompt has: a MODEL's are cut to it (default 64); of a RUN's, those that have it "
            "(default: the length of most). any: different lengths."
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option(help="Prompts a side: the strongest, and the weakest. Default: a tenth, 5 at least.")
    ] = None,
    by: Annotated[str, typer.Option(help="What prompts are ranked by: a metric of heads.")] = "sink_score",
    fdr: Annotated[float, typer.Option(help="False discoveries allowed among the heads said to change.")] = 0.05,
    out: Out = None,
    *,
    shared: Shared,
    seed: Annotated[int, typer.Option(help="Of the permutations.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare the prompts where heads sink most with those where they sink least, and list the heads that change.

    Examples:
        thalweg contrast runs/pythia-410m

        thalweg contrast runs/pythia-410m --length 128 --top 50

        thalweg contrast EleutherAI/pythia-410m --data fineweb-edu --limit 20000 --length 2048 --top 1

    A RUN is read as it is, without its model; a MODEL is surveyed first. Prompts of one length are compared, since sink
    scores fall with length, and each head by a ranking made without it. The paper: Figs. 5, 26, 27, with 20,000 prompts
    of at most 4,096 tokens and the one strongest against the one weakest.
    """
    from thalweg.experiments import SurveyOptions  # torch is loaded here and not for --help
    from thalweg.experiments import contrast as run_contrast
    from thalweg.figures import contrast_answers

    options = SurveyOptions(**shared)
    found = run_contrast(model, data, length=length, top=top, by=by, fdr=fdr, seed=seed, out=out, options=options)
    if as_json:
        print_experiment(found, contrast_answers(found), ("rankings", "heads", "prompts"))
    else:
        _print(found)


def _print(found: Any) -> None:
    from thalweg.figures import CONTRAST_COLUMNS, contrast_answers, contrast_table

    for title, rows in contrast_table(found):
        if rows:
            print_table(CONTRAST_COLUMNS[: len(rows[0])], rows, title=title)
        else:
            typer.echo(printable(f"{title}: none"))
        typer.echo()
    for answer in contrast_answers(found):
        typer.echo(printable(f"{answer}."))
    say_run(found)
