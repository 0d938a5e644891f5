"""``thalweg verify``."""

from typing import Any

import typer

from thalweg.cli._memory import memory_limits
from thalweg.cli._options import (
    AllowPickle,
    AsJson,
    Device,
    DeviceMap,
    Dtype,
    MaxMemory,
    Model,
    OffloadFolder,
    Revision,
    TrustRemoteCode,
)
from thalweg.cli._tables import print_json, print_table

__all__ = ["verify"]


def verify(
    model: Model = "planted",
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = None,
    device_map: DeviceMap = None,
    max_memory: MaxMemory = None,
    offload_folder: OffloadFolder = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
    as_json: AsJson = False,
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
