"""Options that several verbs share: one name, one type, one line of help."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from thalweg.cli._memory import memory_limits

DEFAULT_MODEL = "reference"
"""What comes with thalweg; by its name, since the room that has it imports torch."""

Shared = dict[str, Any]
"""What a verb gets of the options that it shares: by the names of their library's options."""

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Hub id or directory. Default: reference, which comes with thalweg.")
]
Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="MODEL", help="Hub ids or directories. Default: reference, which comes with thalweg."),
]
Data = Annotated[
    list[str] | None,
    typer.Option(help="Short name, .jsonl, .parquet, .tsv or .txt file, or hub data set. May be repeated."),
]
Out = Annotated[Path | None, typer.Option(help="Run directory; an existing one is continued. Default: runs/MODEL.")]
TextField = Annotated[str | None, typer.Option(help="Field that holds the text; several joined by +.")]
WholeFile = Annotated[bool, typer.Option("--whole-file", help="Make one prompt of a .txt file.")]
Limit = Annotated[int | None, typer.Option(help="First rows of the data to measure.")]
MaxLength = Annotated[int, typer.Option(help="Longest prompt in tokens; longer ones are cut.")]
Bos = Annotated[
    Literal["auto", "always", "never"],
    typer.Option(help="Beginning-of-sequence token: as the tokenizer does, or not."),
]
Tau = Annotated[float, typer.Option(help="Sink score from which a head is a sink.")]
SinkPosition = Annotated[int, typer.Option(help="Position of the sink token.")]
MassiveRatio = Annotated[float, typer.Option(help="Row norm over median row norm of a massive row.")]
Variants = Annotated[bool, typer.Option("--variants", help="Also measure other authors' entropies.")]
KeepText = Annotated[bool, typer.Option("--keep-text", help="Keep the prompts' text in the run.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
Dtype = Annotated[str, typer.Option(help="auto (as saved), float32, float64, bfloat16 or float16.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: cuda where there is one.")]
DeviceMap = Annotated[str | None, typer.Option(help="auto: spread the model over devices, memory, disk.")]
MaxMemory = Annotated[
    list[str] | None, typer.Option(help="Limit for --device-map, as cpu=8GiB or 0=20GiB. May be repeated.")
]
OffloadFolder = Annotated[str | None, typer.Option(help="Where blocks that fit nowhere are kept.")]
AllowPickle = Annotated[bool, typer.Option("--allow-pickle", help="Read pickled weights; they can run code.")]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run the code that comes with a model.")]
Engine = Annotated[Literal["local"], typer.Option(help="What runs the shards.")]
BatchTokens = Annotated[int | None, typer.Option(help="Padded tokens of a forward pass; changes no number.")]
BatchSize = Annotated[int | None, typer.Option(help="Prompts of a forward pass at most.")]
Seed = Annotated[int, typer.Option(help="Written into the run.")]
Tuned = Annotated[
    str | None,
    typer.Option(
        help="Tuned lens: a directory, a run in which one was trained, or AlignmentResearch/tuned-lens for the one "
        "published for MODEL. Default: the logit lens."
    ),
]
NoFinalNorm = Annotated[bool, typer.Option("--no-final-norm", help="Leave the final norm out of the logit lens.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

LOADING: Mapping[str, tuple[Any, Any]] = {
    "revision": (Revision, None),
    "dtype": (Dtype, "auto"),
    "device": (Device, None),
    "device_map": (DeviceMap, None),
    "max_memory": (MaxMemory, None),
    "offload_folder": (OffloadFolder, None),
    "allow_pickle": (AllowPickle, False),
    "trust_remote_code": (TrustRemoteCode, False),
}
"""How a model is loaded: by name, the option and its default."""

MEASURING: Mapping[str, tuple[Any, Any]] = {
    "text_field": (TextField, None),
    "whole_file": (WholeFile, False),
    "limit": (Limit, None),
    "max_length": (MaxLength, 1024),
    "bos": (Bos, "auto"),
    "tau": (Tau, 0.3),
    "sink_position": (SinkPosition, 0),
    "massive_ratio": (MassiveRatio, 10.0),
    **LOADING,
    "batch_tokens": (BatchTokens, None),
    "batch_size": (BatchSize, None),
}
"""The same with which prompts are measured, against which thresholds, in which batches."""


def sharing(options: Mapping[str, tuple[Any, Any]]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a verb take ``options`` on the command line where its parameter ``shared`` stands, and get them as one."""

    def shared(verb: Callable[..., None]) -> Callable[..., None]:
        @wraps(verb)
        def called(**given: Any) -> None:
            own = {name: given.pop(name) for name in options}
            own["max_memory"] = memory_limits(own["max_memory"])
            verb(**given, shared=own)

        parameters = [
            one
            for parameter in inspect.signature(verb).parameters.values()
            for one in (_parameters(options) if parameter.name == "shared" else [parameter])
        ]
        called.__annotations__ = {one.name: one.annotation for one in parameters}
        vars(called)["__signature__"] = inspect.Signature(parameters)
        return called

    return shared


def _parameters(options: Mapping[str, tuple[Any, Any]]) -> list[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(name, kind, default=default, annotation=option) for name, (option, default) in options.items()
    ]
