"""Runs with an ablation and a sweep of gamma made up from known numbers: what is drawn and said can be told."""

import math

import polars as pl
from tests.synthetic_run import PLANTED, add_findings, header

from thalweg import averages
from thalweg.experiments import tables_of
from thalweg.experiments._ablate.measure import write_answers
from thalweg.store import Shard, open_run

PROMPTS = 3
KEYS = {"model": PLANTED.name, "revision": "main"}
VALLEY = (2.0, 2.1, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 1.9)
FLAT = (2.0, 2.1, 2.1, 2.0, 2.1, 2.0, 2.1, 2.0, 1.9)
NAMED = ("condition", "control", "seed", "blocks", "row_of")
CONDITIONS = (
    ("intact", None, None, "", None, True, None),
    ("blocks 1", None, None, "1", None, False, None),
    ("blocks 3", None, None, "3", None, True, None),
    ("blocks 1,3", None, None, "1,3", None, False, None),
    ("nothing", "negative", None, "1,3", None, True, None),
    ("other position", "negative", 0, "1,3", None, True, None),
    ("other position", "negative", 1, "1,3", None, True, None),
    ("other blocks compress", "negative", None, "", "compress", None, "no other blocks of 2 to draw"),
    ("rescaled compress", "positive", None, "", "compress", "shallow", None),
    ("emptied compress", "positive", None, "", "compress", False, None),
)
"""Name, control, seed, blocks, whose row, whether the valley stays (None: not run), reason."""
SEGMENT = {"first": 2, "last": 7, "peak": 2, "until": 7, "run_first": 2, "peak_ratio": 100.0, "massive_prompts": 1.0}
ROW = {"position": 0, "position_share": 1.0, "tokens": ["<s>"], "reference_state": 2, "dims": [17], "largest": 1000.0}


def rows(data, condition, prompt, valley, *, massive=True):
    """One prompt under one condition: with the valley and its sinks, or without; "shallow" keeps the sinks alone.

    "taken": another row has taken over, on which the heads sink.
    """
    own = {**KEYS, "data": data, "prompt": prompt, **condition}
    states = []
    for state, entropy in enumerate(VALLEY if valley in (True, "taken") else FLAT):
        large = massive and valley is True and 2 <= state <= 7
        ratio, other = 100.0 if large else 1.5, 67.0 if valley == "taken" and 3 <= state <= 7 else 1.2
        numbers = {"entropy": entropy + prompt / 50, "entropy_normalized": (entropy + prompt / 50) / 3}
        norms = {"sink_norm": 10 * ratio, "rest_norm": 10.0, "norm_ratio": ratio, "row_ratio": ratio}
        largest = {"own_ratio": ratio, "other_ratio": other, "other_position": 4, "row_position": 0}
        words = {"entropy_without_massive": 2.0, "other_token": " the" if other > 10 else None}
        states.append({**own, "state": state, **numbers, **norms, **largest, **words})
    blocks = []
    for block in range(PLANTED.blocks):
        top = 0.5 if valley and 2 <= block <= 7 else 0.0
        rate = 0.0 if valley == "taken" else top
        scores = {"sink_score": rate, "top_rate": top, "top_score": top, "elsewhere_rate": top - rate}
        blocks.append({**own, "block": block, "sink_rate": rate, **scores, "mixing_normalized": 0.5})
    loss = {**own, "loss": 3.0 + prompt / 10 + (0 if valley is True else 0.25), "tokens": 9}
    return {"states": states, "blocks": blocks, "losses": [loss]}


def write_parts(writer, experiment, data, found):
    frames = {}
    for name in ("states", "blocks", "losses"):
        schema = tables_of(experiment)[name].schema
        every = [{key: row.get(key) for key in schema} for one in found for row in one[name]]
        frames[name] = pl.DataFrame(every, schema=schema)
    writer.write_part(Shard(PLANTED.name, "main", data, 0, PROMPTS), frames)


def with_ablation(path, *, data=("words",), conditions=CONDITIONS, massive=True, settings=None):
    """A run with an ablation of known effect."""
    with add_findings(path, header((PLANTED,), data), "ablation", settings or {"blocks": "auto"}) as writer:
        for one in data:
            found = [
                rows(one, dict(zip(NAMED, row, strict=False)), prompt, row[5], massive=massive)
                for row in conditions
                for prompt in range(PROMPTS)
                if row[5] is not None
            ]
            write_parts(writer, "ablation", one, found)
        plan = [
            {**KEYS, "data": data_, **dict(zip(NAMED, row, strict=False)), "dims": [], "reason": row[6]}
            for data_ in data
            for row in conditions
        ]
        schema = tables_of("ablation")["conditions"].schema
        writer.write_table("conditions", pl.DataFrame(plan, schema=schema))
        write_segments(writer, "ablation", data, massive=massive)
        writer.update()
        write_answers(writer, massive_ratio=10.0)
        writer.update(status="finished")
    return open_run(path)


def write_segments(writer, experiment, data, *, massive):
    """The plan: the compress phase, or nothing."""
    schema = tables_of(experiment)["segments"].schema
    known = {"name": "compress", **SEGMENT, **ROW, "ordinary": 8.0} if massive else {"name": "none", **ROW}
    every = [{**dict.fromkeys(schema), **KEYS, "data": one, **known} for one in data]
    writer.write_table("segments", pl.DataFrame(every, schema=schema))


def with_clip(path, *, data=("words",), massive=True, gammas=(10.0, 100.0, 1000.0), settings=None):
    """A run with a sweep: the valley is there at the last gamma alone."""
    asked = settings or {"gammas": list(gammas), "states": "1-8", "massive_only": False}
    with add_findings(path, header((PLANTED,), data), "clip", asked) as writer:
        for one in data:
            found = [
                rows(one, {"gamma": gamma}, prompt, gamma >= gammas[-1], massive=massive)
                for gamma in (*gammas, math.inf)
                for prompt in range(PROMPTS)
            ]
            write_parts(writer, "clip", one, found)
        known = {"dims": [17, 42], "peak": 1000.0, "ordinary": 8.0}
        none = {"dims": [], "peak": math.nan, "ordinary": math.nan}
        sweeps = [{**KEYS, "data": one, "gammas": list(gammas), **(known if massive else none)} for one in data]
        writer.write_table("sweeps", pl.DataFrame(sweeps, schema=tables_of("clip")["sweeps"].schema))
        write_segments(writer, "clip", data, massive=massive)
        writer.update()
        tables = writer.reading().table
        parts, compress = (tables("states"), tables("blocks"), tables("losses")), tables("segments").collect()
        curves = averages.changes(*parts, compress, pl.col("gamma").is_infinite(), by=("gamma",), changed="clipped")
        writer.write_table("curves", curves)
        writer.update(status="finished")
    return open_run(path)
