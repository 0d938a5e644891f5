"""``thalweg verify``."""

from typing import Annotated, Any

import typer

from thalweg.cli._memory import memory_limits
from thalweg.cli._tables import print_json, print_table

__all__ = ["verify"]


def verify(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Hub id or directory. Default: planted, the bundled model.")
    ] = "planted",
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
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Prove on a few tokens that the parts of MODEL are where thalweg looks for them, a line a check.

    Examples:
        thalweg verify EleutherAI/pythia-410m
    """
    from thalweg.capture import LoadOptions, identify_model, load_model, prove, subject_of
    from thalweg.reference import bundled_directory

    options = LoadOptions(
        revision=revision,
        dtype=dtype,
        device=device,
        device_map=device_map,
        max_memory=memory_limits(max_memory),
        offload_folder=offload_folder,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )
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
