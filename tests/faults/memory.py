"""How much memory a survey holds after each shard, and at most: ``python -m tests.faults.memory MODEL PROMPTS``."""

import resource
import sys
import tempfile
from pathlib import Path

import thalweg
from thalweg.store import FindingsWriter


def held(model: str, prompts: int, out: Path) -> list[int]:
    """MiB of this process after each shard of 64 prompts, and the most of all, averages at the end included."""
    held, own, page = list[int](), FindingsWriter.write_part, resource.getpagesize()

    def write_part(*given: object, **more: object) -> None:
        own(*given, **more)
        held.append(int(Path("/proc/self/statm").read_text().split()[1]) * page // 2**20)

    FindingsWriter.write_part = write_part
    texts = [f"{row} green bottles " * 2 for row in range(prompts)]
    thalweg.survey(model, texts, out=out, progress=False)
    return [*held, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10]


if __name__ == "__main__":
    model, prompts = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory() as place:
        print(*held(model, prompts, Path(place) / "run"))  # noqa: T201 - it is a program
