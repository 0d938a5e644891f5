"""Several processes hold the model: DDP and FSDP, here over gloo; training is the same, the first process writes."""

import datetime
import os
import socket
import sys
from pathlib import Path

import pytest
import torch
from tests.monitor import small
from torch import distributed, nn

from thalweg.monitor import Alarms
from thalweg.monitor._untouched import is_sharded
from thalweg.store import open_run

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="this torch has no distributed package")
STEPS = 2


@pytest.fixture
def alone():
    """A group of one process."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def wrapped(kind):
    model = small.model()
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    from torch.distributed.fsdp import fully_shard

    mesh = distributed.init_device_mesh("cpu", (distributed.get_world_size(),))
    for block in model.model.layers:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def compared(kind, path, **options):
    """The same training twice; the second time with the monitor, before the first step too."""
    ending = small.train(wrapped(kind), steps=STEPS)
    model, watching = wrapped(kind), small.monitor(path, **options)
    assert is_sharded(model) == (kind != "ddp")
    found = [watching.begin(model)]
    watched = small.train(model, lambda own, step: found.append(watching.step(own, step)), steps=STEPS)
    watched.assert_equals(ending)
    watching.finish()
    return found, watching


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("kind", ["ddp", "fully_shard"])
def test_in_one_process_a_wrapped_model_trains_the_same_and_gives_the_plain_one_s_numbers(tmp_path, kind):
    found, _ = compared(kind, tmp_path)
    plain = small.monitor(tmp_path / "plain")
    expected = [plain.begin(small.model())]
    small.train(small.model(), lambda own, step: expected.append(plain.step(own, step)), steps=STEPS)
    for own, other in zip(found, expected, strict=True):
        assert own == pytest.approx(other, rel=1e-4, abs=1e-6)  # sums of gradients are taken in another order
    assert small.record_steps(tmp_path) == [0, 1, 2]


def process(rank, size, port, folder):
    """What each of several processes does."""
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    limit = datetime.timedelta(seconds=120)
    distributed.init_process_group("gloo", rank=rank, world_size=size, timeout=limit)
    found, watching = compared("fully_shard", Path(folder) / "run", alarms=Alarms(massive_above=1e-3, stop=True))
    assert all(found) if rank == 0 else found == [{}] * (STEPS + 1)
    assert watching.should_stop  # on every process, though one alone looks
    # The first process cannot write: the others neither wait for it nor go on without it.
    model = wrapped("fully_shard")
    watching = small.monitor(Path(folder) / "broken", strict=False)
    watching.begin(model)
    if rank == 0:
        watching._record._ready = refuses
    watching.step(model, 1)
    assert not watching.is_due(2)
    distributed.destroy_process_group()


def refuses(*_):
    raise OSError("the disk is full")


@pytest.mark.skipif(sys.platform == "win32", reason="gloo over localhost is tested on POSIX systems")
def test_two_processes_train_the_same_and_the_first_one_writes(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(process, (2, port, str(tmp_path)), nprocs=2)
    assert small.record_steps(tmp_path / "run") == [0, 1, 2]
    assert open_run(tmp_path / "run").status == "finished"
    assert open_run(tmp_path / "broken").status == "failed"
