"""A run goes on where it stopped, and only if it is the same run."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest
from tests.synthetic_run import PLAIN, PLANTED, build_run, header, open_survey, part_tables, session, write_parts

from thalweg.errors import RunError
from thalweg.store import PartCounts, Shard, Thresholds, open_run
from thalweg.store._files import write_document
from thalweg.store._shards import read_record

TABLES = ("layers", "heads", "massive", "prompts")
ROOT = Path(__file__).parents[2]


def rows_of(run):
    return {table: getattr(run, table).collect() for table in TABLES}


def shard(first, stop):
    return Shard(PLANTED.name, "main", "words", first, stop)


def test_a_new_run_is_identified_before_anything_is_measured(tmp_path):
    with open_survey(tmp_path / "new" / "run", header()):
        run = open_run(tmp_path / "new" / "run")
        assert run.status == "started"
        assert run.header.started is not None
        assert run.session.started is not None
        assert run.layers.collect().height == 0
        assert run.missing == ("profile", "phases", "segments", "claims", "coupling")


def test_tables_are_equal_however_the_rows_were_cut(tmp_path):
    whole = rows_of(build_run(tmp_path / "whole", step=8))
    with open_survey(tmp_path / "cut", header()) as writer:
        write_parts(writer, prompts=3, step=2)
    with open_survey(tmp_path / "cut", header()) as writer:
        for model in (PLAIN, PLANTED):
            for data in ("sums", "words"):
                writer.write_part(Shard(model.name, "main", data, 3, 8), part_tables(model, data, range(3, 8)))
    cut = rows_of(open_run(tmp_path / "cut"))
    assert all(whole[table].equals(cut[table]) for table in TABLES)


def test_rows_come_sorted_by_model_data_prompt_and_place(tmp_path):
    heads = build_run(tmp_path / "run").heads.collect()
    order = {"lab/planted": 0, "lab/plain": 1, "words": 0, "sums": 1}
    keys = heads.with_columns(pl.col("model", "data").replace_strict(order)).select(
        "model", "data", "prompt", "block", "head"
    )
    assert keys.equals(keys.sort(keys.columns))


def test_done_gives_the_finished_rows_sorted(tmp_path):
    with open_survey(tmp_path, header()) as writer:
        for first, stop in ((4, 6), (0, 4), (9, 12)):
            writer.write_part(shard(first, stop), part_tables(PLANTED, "words", range(first, stop)))
        assert writer.done(PLANTED.name, "main", "words") == [(0, 4), (4, 6), (9, 12)]
        assert writer.done(PLAIN.name, "main", "words") == []


def test_a_shard_without_a_usable_prompt_is_done_too(tmp_path):
    with open_survey(tmp_path, header()) as writer:
        empty = part_tables(PLANTED, "words", range(0))
        writer.write_part(shard(0, 5), empty, counts=PartCounts(skipped={"empty text": 5}))
        assert writer.done(PLANTED.name, "main", "words") == [(0, 5)]
        writer.update(status="finished")
    coverage = open_run(tmp_path).coverage[0]
    assert (coverage.rows_read, coverage.prompts_kept, coverage.skipped) == (5, 0, {"empty text": 5})


def test_counts_add_up_over_parts_and_survive_a_kill(tmp_path):
    with open_survey(tmp_path, header()) as writer:
        counts = PartCounts(nonfinite_states=2, skipped={"too long": 1}, bound_violations=4)
        writer.write_part(shard(0, 4), part_tables(PLANTED, "words", range(4)), counts=counts)
        writer.write_part(
            shard(4, 8), part_tables(PLANTED, "words", range(4, 8)), counts=PartCounts(skipped={"too long": 2})
        )
        # no update: as if killed here
    assert open_run(tmp_path).bound_violations == 0
    with open_survey(tmp_path, header()) as writer:
        first = writer.header.coverage[0]
        assert (first.rows_read, first.prompts_kept, first.bound_violations) == (8, 8, 4)
        assert first.skipped == {"too long": 3}
        assert (writer.header.bound_violations, writer.header.nonfinite_states) == (4, 2)


def test_rows_are_never_written_twice(tmp_path):
    with open_survey(tmp_path, header()) as writer:
        writer.write_part(shard(0, 4), part_tables(PLANTED, "words", range(4)))
        for first, stop in ((0, 4), (3, 5), (1, 2)):
            with pytest.raises(ValueError, match="rows 0 to 3 of words are finished"):
                writer.write_part(shard(first, stop), part_tables(PLANTED, "words", range(first, stop)))


def test_a_reader_refuses_rows_that_are_there_twice(tmp_path):
    build_run(tmp_path)
    (folder,) = tmp_path.glob("survey/*/*planted*words*")
    record = read_record(folder / "000000000-000000004.json")
    write_document(folder / "000000000-000000006.json", record.model_copy(update={"stop_row": 6}))
    for part in folder.glob("000000000-000000004.*.parquet"):
        part.with_name(part.name.replace("000000004", "000000006")).write_bytes(part.read_bytes())
    for attempt in (lambda: open_run(tmp_path).layers.collect(), lambda: open_survey(tmp_path, header())):
        with pytest.raises(RunError, match=r"holds rows 0 to 3 twice: .*Remove one of the two"):
            attempt()


def test_a_new_part_takes_down_aggregates_that_do_not_know_it(tmp_path):
    build_run(tmp_path)
    with open_survey(tmp_path, header()) as writer:
        assert open_run(tmp_path).missing == ()
        writer.write_part(shard(8, 9), part_tables(PLANTED, "words", range(8, 9)))
    run = open_run(tmp_path)
    assert run.missing == ("profile", "phases", "segments", "claims", "coupling")
    with pytest.raises(RunError, match=r"no profile.parquet yet .*goes on where it stopped"):
        _ = run.profile


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"max_length": 512}, "max_length: run has 1024, asked for 512"),
        ({"seed": 1}, "seed: run has 0, asked for 1"),
        ({"variants": True}, "variants: run has no, asked for yes"),
        ({"thresholds": Thresholds(tau=0.2)}, r"tau: run has 0.3, asked for 0.2"),
        ({"thresholds": Thresholds(sink_position=3)}, r"sink_position: run has 0, asked for 3"),
        ({"data": ("words",)}, "data: run has sums, words, asked for words"),
        ({"models": (PLAIN,)}, "models: run has lab/plain@main, lab/planted@main, asked for lab/plain@main"),
    ],
)
def test_another_run_is_refused_with_what_differs(tmp_path, options, line):
    open_survey(tmp_path, header()).close()
    with pytest.raises(RunError, match=rf"belongs to another run; {line}.*another --out"):
        open_survey(tmp_path, header(**options))


def test_what_changes_no_number_is_not_part_of_the_identity():
    asked = header()
    other = asked.model_copy(update={"models": tuple(reversed(asked.models))})
    assert asked.identity.differences(other.identity) == []
    model = asked.models[0].model_copy(update={"weights": "sha256:other", "bos_token": None})
    lines = asked.identity.differences(header().model_copy(update={"models": (model, asked.models[1])}).identity)
    assert lines == [
        "bos_token of lab/planted@main: run has <s>, asked for none",
        "weights of lab/planted@main: run has sha256:lab/planted, asked for sha256:other",
    ]


def test_what_made_the_numbers_is_kept_until_another_session_measures(tmp_path):
    later = session(command=("thalweg", "survey", "again"), hardware={"cpu": "one core"})
    with open_survey(tmp_path, header(), session()) as writer:
        writer.write_part(shard(0, 2), part_tables(PLANTED, "words", range(2)))
    with open_survey(tmp_path, header(), later) as writer:
        assert open_run(tmp_path).session.command == session().command
        writer.write_part(shard(2, 4), part_tables(PLANTED, "words", range(2, 4)))
    assert open_run(tmp_path).session.command == later.command
    assert open_run(tmp_path).session.hardware == later.hardware


def test_facts_learned_by_loading_stay_known(tmp_path):
    bare = header()
    unknown = tuple(model.model_copy(update={"attention": None}) for model in bare.models)
    with open_survey(tmp_path, bare.model_copy(update={"models": unknown})) as writer:
        writer.update(model=bare.models[0])
        with pytest.raises(ValueError, match="dtype of lab/planted@main"):
            writer.update(model=bare.models[0].model_copy(update={"dtype": "float16"}))
    with open_survey(tmp_path, bare.model_copy(update={"models": unknown})) as writer:
        assert [model.attention for model in writer.run_header.models] == ["sdpa", None]


def test_time_adds_up_over_resumptions(tmp_path):
    with open_survey(tmp_path, header()) as writer:
        writer.update(status="finished")
    before = open_run(tmp_path).session
    with open_survey(tmp_path, header()) as writer:
        assert writer.header.status == "started"
        assert writer.header.seconds >= before.seconds > 0
        assert writer.header.started == before.started


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt, "interrupted"), (MemoryError, "failed")],
)
def test_a_run_left_by_an_error_says_so_and_keeps_its_parts(tmp_path, error, status):
    def stopped():
        with open_survey(tmp_path, header()) as writer:
            write_parts(writer, (PLANTED,), ("words",))
            raise error

    with pytest.raises(error):
        stopped()
    run = open_run(tmp_path)
    assert run.status == status
    assert run.coverage[0].prompts_kept == 8


def test_two_writers_do_not_share_a_run(tmp_path):
    with open_survey(tmp_path, header()):
        with pytest.raises(RunError, match="another process is writing"):
            open_survey(tmp_path, header())
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert "another process is writing" in pool.apply(_attempt, (tmp_path,))
    open_survey(tmp_path, header()).close()


def _attempt(path) -> str:
    try:
        open_survey(path, header()).close()
    except RunError as error:
        return str(error)
    return "opened"


# Dies while a file or its directory is forced to disk; of a file half of its bytes are there: the worst moment.
KILLED = """
    import os, signal, stat, sys
    from pathlib import Path
    from tests.synthetic_run import PLANTED, header, open_survey, write_parts

    fsync, calls = os.fsync, 0
    writer = open_survey(sys.argv[1], header())

    def dying(handle):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            if not stat.S_ISDIR(os.fstat(handle).st_mode):
                os.truncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    os.fsync = dying
    write_parts(writer, (PLANTED,), ("words",), step=2)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
@pytest.mark.parametrize("moment", [1, 4, 12, 13, 17, 24, 25])
def test_a_killed_writer_leaves_whole_parts_and_no_lock(tmp_path, moment):
    # One call for the folder, and then twelve a part: each of its five files, and its record, and each time the folder.
    script = textwrap.dedent(KILLED)
    command = [sys.executable, "-c", script, str(tmp_path / "run"), str(moment)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    killed = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, check=False)
    assert killed.returncode == -signal.SIGKILL
    run = open_run(tmp_path / "run")
    survivors = {0: [], 1: [0, 1], 2: [0, 1, 2, 3]}[(moment - 1) // 12]
    for table in TABLES:
        assert getattr(run, table).collect()["prompt"].unique().sort().to_list() == survivors
    with open_survey(tmp_path / "run", header()) as writer:
        left = [path.name for path in (tmp_path / "run" / "survey").glob("*/*/*")]
        assert len(left) == len(survivors) / 2 * 6  # five tables and a record
        assert not any(name.endswith(".tmp") for name in left)
        for first in range(len(survivors), 8, 2):
            writer.write_part(shard(first, first + 2), part_tables(PLANTED, "words", range(first, first + 2)))
    undisturbed = rows_of(build_run(tmp_path / "whole", (PLANTED, PLAIN), ("words", "sums")))
    for table, rows in rows_of(open_run(tmp_path / "run")).items():
        of_pair = (pl.col("model") == PLANTED.name) & (pl.col("data") == "words")
        assert rows.equals(undisturbed[table].filter(of_pair))
