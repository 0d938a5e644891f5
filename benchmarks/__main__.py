"""What a survey and the experiments cost: ``make bench``.

All figures are ratios of runs in one process in turn (A B B A ...), medians with their range, so that they hold on a
noisy machine; CPU time is that of all threads of the process, of which ``OMP_NUM_THREADS`` says how many there are.

    python -m benchmarks --only survey --problems 4 --texts 1 --runs 1

Each part is kept in ``docs/benchmarks/`` as it was measured last, for docs/benchmarks.md.
"""

import argparse
import sys
from importlib import import_module

import torch

from benchmarks import PARTS
from benchmarks.measured import Asked, at_least_one, command, print_table, versions, write_result
from thalweg.errors import ThalwegError

SIZES = ("runs", "problems", "texts", "prompts")


def main() -> None:
    """Run the parts, print their tables and keep them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=at_least_one, default=5, help="rounds of each comparison")
    parser.add_argument("--problems", type=at_least_one, default=30, help="problems of GSM8K in a survey")
    parser.add_argument("--texts", type=at_least_one, default=8, help="texts of 1,024 tokens in a survey")
    parser.add_argument("--prompts", type=at_least_one, default=16, help="texts of the other parts")
    parser.add_argument("--model", help="of the survey: a directory or a GGUF file; SmolLM2 where it is at hand")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="parts")
    given = vars(parser.parse_args())
    parts, asked = given.pop("only"), Asked(**given)
    for part in parts:
        try:
            tables = import_module(f"benchmarks.{part}").tables(asked)
        except ThalwegError as error:
            parser.error(str(error))
        sys.stderr.write("\n")
        for table in tables:
            print_table(table)
        write_result(
            part,
            tables,
            rounds=asked.runs,
            threads=torch.get_num_threads(),
            versions=versions("thalweg", "torch", "transformers"),
            command=command("benchmarks", parser, {**given, "only": part}, "only", *SIZES),
        )


if __name__ == "__main__":
    main()
