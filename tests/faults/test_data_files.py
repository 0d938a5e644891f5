"""Data files that are spoilt, in every format: rows, or a line that says which one."""

import io
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
from tests.faults.foreign import VALUES, Outcomes, nobody_called, spoilt
from tests.faults.share import some

from thalweg.prompts import open_labelled, open_source

ROWS = [{"text": f"row {row} of films", "label": row % 2, "more": {"deep": [row]}} for row in range(120)]
FIELDS = (None, None, None, "text", "more.deep.0", "label+text", "9" * 30, "\ud800", "text+", "0", "")


def table(columns, **how):
    written = io.BytesIO()
    pq.write_table(pa.table(columns), written, **how)
    return written.getvalue()


def whole():
    lines = [json.dumps(row) for row in ROWS]
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    return {
        "jsonl": "\n".join(lines).encode(),
        "tsv": "".join(f"{row['text']}\t{row['label']}\n" for row in ROWS).encode(),
        "txt": "\n".join(row["text"] for row in ROWS).encode(),
        "parquet": table(columns, row_group_size=50),
    }


def of_any_type(rng):
    """Values of any type under any name, as JSON or as Arrow stores them."""
    values = [rng.choice(VALUES) for _ in range(3)]
    if rng.random() < 0.5:
        named = (json.dumps({rng.choice(("text", "label", "\ud800", "")): value}) for value in values)
        return "jsonl", "\n".join(named).encode()
    kind = rng.choice((pa.timestamp("us"), pa.duration("s"), pa.timestamp("ms", "No/Where"), pa.int64(), pa.date64()))
    return "parquet", table({"text": pa.array([rng.choice((0, -(2**62), 2**62, None)) for _ in range(3)], kind)})


def read(path, field):
    for _ in open_source(path, text_field=field).rows():
        pass
    open_labelled(path, text_field=field).read()


def test_spoilt_data_are_read_or_refused(tmp_path):
    outcomes, files = Outcomes(tmp_path / "canary"), whole()
    with nobody_called():
        for seed in some(range(600)):
            rng = random.Random(seed)
            kind, content = of_any_type(rng) if seed % 5 == 0 else (rng.choice(list(files)), None)
            path = tmp_path / f"{seed}.{kind}"
            path.write_bytes(spoilt(files[kind], seed // 5) if content is None else content)
            outcomes.of(path.name, lambda path=path, rng=rng: read(str(path), rng.choice(FIELDS)))
    assert outcomes.wrong == []
    assert outcomes.refused
