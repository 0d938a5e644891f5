"""Peak memory above the weights of a survey and of the usual way, which grows as the square of the length.

Each is measured in a process of its own; the usual way at 16,384 tokens is extrapolated from 2,048. A single block of
width 16 shows how a survey's own memory grows up to 131,072 tokens.
"""

import multiprocessing

from benchmarks.measured import Asked, Table, peak
from benchmarks.peers.ways import eager
from benchmarks.subjects import CONTEXT, SHAPE, Measured, random_model
from benchmarks.survey import surveyed
from thalweg.reference import byte_tokenizer

SHORT, LONG = 2048, 2**17
SMALL = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 1}
SMALL |= {"num_key_value_heads": 1, "max_position_embeddings": LONG}


def tables(_: Asked) -> list[Table]:
    """Gigabytes by way and length."""
    small = (("survey, one block of width 16", LONG // 4), ("survey, one block of width 16", LONG))
    asked = (("survey", CONTEXT), ("survey", SHORT), *small, ("usual way", SHORT))
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = pool.starmap(above_weights, asked, chunksize=1)
    guess = peaks[-1] * (CONTEXT / SHORT) ** 2
    rows = [
        *zip(asked, peaks, ("at most 1 GB", "", "", "", ""), strict=True),
        (("usual way, extrapolated", CONTEXT), guess, ""),
    ]
    table = Table(SHAPE, ("way", "tokens", "peak above the weights", "target"))
    table.rows.extend((way, f"{length:,}", f"{amount / 1e9:.2f} GB", target) for (way, length), amount, target in rows)
    return [table]


def above_weights(way: str, length: int) -> int:
    """Bytes that one prompt of this length needs above the weights."""
    measured = Measured("", random_model(**(SMALL if "one block" in way else {})), byte_tokenizer())

    def run(length: int) -> None:
        if way.startswith("survey"):
            surveyed(measured, ["a" * length], max_length=length)
        else:
            eager(measured.model, [[97] * length])

    run(32)  # libraries and pools of threads are there before the measurement
    return peak(lambda: run(length))
