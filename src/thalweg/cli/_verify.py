"""``thalweg verify``."""

from typing import Any

import typer

from thalweg.cli._options import DEFAULT_MODEL, LOADING, AsJson, Model, Shared, sharing
from thalweg.cli._tables import print_json, print_table


@sharing(LOADING)
def verify(
    model: Model = DEFAULT_MODEL,
    *,
    shared: Shared,
    as_json: AsJson = False,
) -> None:
    """Prove on a few tokens that the parts of MODEL are where thalweg looks for them, a line a check.

    Examples:
        thalweg verify EleutherAI/pythia-410m
    """
    from thalweg.capture import identify_model, load_model, prove, subject_of
    from thalweg.options import LoadOptions
    from thalweg.reference import bundled_directory

    options = LoadOptions(**shared)
    subject = subject_of(load_model(identify_model(model, options, directory=bundled_directory(model))))
    checks: list[Any] = prove(subject)
    if as_json:
        print_json([vars(check) for check in checks])
    else:
        rows = [(check.capability, check.name, "yes" if check.passed else "NO", check.detail) for check in checks]
        title = f"{model}: {type(subject.model).__name__}, attention seen through {subject.path}"
        print_table(("capability", "check", "holds", "figures"), rows, title=title)
    if not all(check.passed for check in checks if check.capability == "states and attention"):
        raise typer.Exit(2)
