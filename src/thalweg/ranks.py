"""Several processes that hold one model between them: which one this is, and which one speaks and writes.

``torchrun --nproc-per-node 2 -m thalweg ...`` starts them. All of them do the same on the same states and know the same
rows; the first one prints, and writes into the run. The others write into copies of it, which are thrown away.
"""

import atexit
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path

from thalweg.errors import UsageError

__all__ = ["TOGETHER", "join", "joined", "own_directory", "rank", "refuse", "size"]

TOGETHER = ("survey", "attribute", "ablate", "heads", "verify")
"""What such processes can do."""
PATIENCE = 10.0
"""Seconds that another process waits before it says why it ends: what all of them meet, the first one says."""
LONGEST = timedelta(hours=2)  # one process may read its weights long after another
NOT_COPIED = ("features", "figures", "*.lock")
_place = (0, 1)
_copies = dict[Path, Path]()


def rank() -> int:
    """Which of the processes this is; the first one, 0, where there are no others."""
    return _place[0]


def size() -> int:
    """How many they are."""
    return _place[1]


def join() -> None:
    """Be one of the processes that torch.distributed knows, which are brought together if they are not."""
    import torch
    from torch import distributed

    global _place
    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group(timeout=LONGEST)
    _place = (distributed.get_rank(), distributed.get_world_size())


@contextmanager
def joined() -> Iterator[None]:
    """A command of all processes that torchrun has started; nothing where it has started one, or none."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield
        return
    join()
    if rank() == 0:
        yield
        sys.stdout.flush()
    else:
        try:
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield
        except BaseException:
            time.sleep(PATIENCE)
            raise
    _wait()  # the first one has said all before any other ends


def refuse(verb: str) -> None:
    """Refuse what several processes would do wrong.

    Raises:
        UsageError: there are several, and they cannot do this.
    """
    if size() == 1:
        return
    if verb not in TOGETHER:
        raise UsageError(
            f"{verb}: expected one process; torchrun has started {size()}, which can share a model "
            f"in {', '.join(TOGETHER)} alone. Start it without torchrun, with --device-map auto where one GPU is too "
            "small."
        )
    if (here := os.environ.get("LOCAL_WORLD_SIZE", str(size()))) != str(size()):
        raise UsageError(f"{verb}: expected {size()} processes on one machine; got {here} here. Leave --nnodes out.")


def own_directory(path: Path) -> Path:
    """Where this process writes a run: there, or, where it is not the first one, into a copy."""
    if size() == 1:
        return path
    if rank() and path.resolve() not in _copies:
        place = tempfile.mkdtemp(prefix="thalweg-process-")
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        own = Path(place) / path.name
        if path.is_dir():
            shutil.copytree(path, own, ignore=shutil.ignore_patterns(*NOT_COPIED))
        _copies[path.resolve()] = own
    _wait()  # nobody writes before everybody has read
    return _copies.get(path.resolve(), path)


def _wait() -> None:
    from torch import distributed

    distributed.barrier()
