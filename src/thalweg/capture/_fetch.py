"""Bring the weights of the next model near while another one is at work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.utils import tqdm

from thalweg.capture._identity import weights_in_directory, weights_on_hub
from thalweg.capture._named import IdentifiedModel

PIECE = 2**24
MEMORY = Path("/proc/meminfo")


def fetch_weights(model: IdentifiedModel, stopped: Callable[[], bool] = lambda: False) -> None:
    """Download a model's weight files if they are not here, and read them into the system's file cache.

    Nothing is kept in this process and no model is built: transformers changes torch's default dtype and some of
    torch's functions for the time in which it builds one, and whatever runs beside it would give other numbers. Loading
    the model afterwards reads from memory. Files that would not fit into free memory are downloaded and not read.

    Args:
        model: what will be loaded next.
        stopped: asked again and again; once it is true this returns at the next opportunity.

    Raises:
        Exception: whatever the hub or the disk has to say; loading the model will say it too.
    """
    files = weight_files(model, stopped) if model.given is None else []
    if sum(file.stat().st_size for file in files) > _free_memory():
        return
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while not stopped() and opened.read(PIECE):
                pass


def weight_files(model: IdentifiedModel, stopped: Callable[[], bool] = lambda: False) -> list[Path]:
    """The files that a model's weights are in, an adapter's own first; those on the hub are downloaded."""
    source = Path(model.source)
    if model.adapter is not None:
        adapter, base = model.adapter
        return [adapter.weights, *weight_files(base, stopped)]
    if model.gguf is not None:
        return [model.gguf.path]
    if source.is_dir():
        return weights_in_directory(source)
    # One after the other and not as a whole: the hub's own threads could not be stopped.
    files = list[Path]()
    for name in weights_on_hub(model.source, model.commit, allow_pickle=model.options.allow_pickle):
        if stopped():
            break
        files.append(Path(hf_hub_download(model.source, name, revision=model.commit, tqdm_class=_Silent)))
    return files


class _Silent(tqdm):
    """No bar of its own in the midst of another."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "disable": True})


def _free_memory() -> int:
    """What the system could give away, in bytes; 0 where it does not say."""
    try:
        lines = MEMORY.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
