"""``thalweg attribute``."""

from typing import Any

import typer

from thalweg.cli._memory import memory_limits
from thalweg.cli._options import (
    AllowPickle,
    AsJson,
    BatchSize,
    BatchTokens,
    Bos,
    Data,
    Device,
    DeviceMap,
    Dtype,
    Limit,
    MassiveRatio,
    MaxLength,
    MaxMemory,
    Model,
    OffloadFolder,
    Out,
    Revision,
    SinkPosition,
    Tau,
    TextField,
    TrustRemoteCode,
    WholeFile,
)
from thalweg.cli._tables import print_json, print_table

__all__ = ["attribute"]


def attribute(
    model: Model = "planted",
    data: Data = None,
    out: Out = None,
    text_field: TextField = None,
    whole_file: WholeFile = False,
    limit: Limit = None,
    max_length: MaxLength = 1024,
    bos: Bos = "auto",
    tau: Tau = 0.3,
    sink_position: SinkPosition = 0,
    massive_ratio: MassiveRatio = 10.0,
    revision: Revision = None,
    dtype: Dtype = "auto",
    device: Device = None,
    device_map: DeviceMap = None,
    max_memory: MaxMemory = None,
    offload_folder: OffloadFolder = None,
    allow_pickle: AllowPickle = False,
    trust_remote_code: TrustRemoteCode = False,
    batch_tokens: BatchTokens = None,
    batch_size: BatchSize = None,
    as_json: AsJson = False,
) -> None:
    """Say which block's attention or MLP writes the massive activation, and into which dimensions.

    Examples:
        thalweg attribute

        thalweg attribute EleutherAI/pythia-410m --data gsm8k --limit 500 --out runs/pythia-410m

    Joins the run of a survey with the same options, or makes a run of its own. The paper: Fig. 19.
    """
    from thalweg.experiments import SurveyOptions  # torch is loaded here and not for --help
    from thalweg.experiments import attribute as run_attribution

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
        batch_tokens=batch_tokens,
        batch_size=batch_size,
    )
    found = run_attribution(model, data or ["bundled"], out=out, options=options)
    if as_json:
        print_json(_summary(found))
    else:
        _print(found)


def _summary(found: Any) -> dict[str, Any]:
    from thalweg.figures import attribution_answers

    return {
        "run": str(found.directory.parent),
        "status": found.header.status,
        "coverage": [pair.model_dump() for pair in found.header.coverage],
        "answers": attribution_answers(found),
        "writers": found.table("writers").collect().to_dicts(),
        "attribution": found.table("attribution").collect().to_dicts(),
    }


def _print(found: Any) -> None:
    from thalweg.figures import ATTRIBUTION_COLUMNS, attribution_answers, attribution_table

    for (title, rows), answer in zip(attribution_table(found), attribution_answers(found), strict=True):
        print_table(ATTRIBUTION_COLUMNS, rows, title=title)
        typer.echo()
        typer.echo(f"{answer}.")
    run = found.directory.parent
    typer.echo(f"run: {run}    draw it: thalweg figures {run}")
