"""A run that grows: a model or a step of a training at a time."""

import pytest
from tests.synthetic_run import PLAIN, PLANTED, build_run, header, open_survey, part_tables

from thalweg.errors import RunError
from thalweg.store import Shard, open_run


def rows(run):
    return run.layers.select("model", "prompt").unique().collect().group_by("model").len().sort("model").rows()


def test_a_model_can_be_added_while_the_run_is_written(tmp_path):
    path = build_run(tmp_path / "run", models=(PLAIN,), data=("words",)).path
    before = rows(open_run(path))
    later = header((PLANTED,), ("words",)).models[0]
    with open_survey(path, header((PLAIN,), ("words",))) as writer:
        writer.add_model(later)
        writer.add_model(later)
        assert [model.name for model in open_run(path).header.models] == ["lab/plain", "lab/planted"]
        writer.write_part(Shard("lab/planted", "main", "words", 0, 3), part_tables(PLANTED, "words", range(3)))
        writer.update()
    run = open_run(path)
    assert rows(run) == [*before, ("lab/planted", 3)]
    assert [(pair.model, pair.prompts_kept) for pair in run.coverage] == [
        ("lab/plain", before[0][1]),
        ("lab/planted", 3),
    ]


def test_the_same_name_with_other_weights_is_refused(tmp_path):
    with open_survey(tmp_path, header((PLAIN,), ("words",))) as writer:
        other = writer.run_header.models[0].model_copy(update={"weights": "others"})
        with pytest.raises(RunError, match="weights"):
            writer.add_model(other)
        assert len(writer.run_header.models) == 1


def test_extending_keeps_what_the_run_holds_and_adds_what_it_lacks(tmp_path):
    open_survey(tmp_path, header((PLAIN,), ("words",))).close()
    with pytest.raises(RunError, match="models: run has"):
        open_survey(tmp_path, header((PLANTED,), ("words",)))
    with open_survey(tmp_path, header((PLANTED,), ("words",)), grown=True) as writer:
        assert [model.name for model in writer.run_header.models] == ["lab/plain", "lab/planted"]
    strange = header((PLAIN,), ("words",))
    changed = strange.models[0].model_copy(update={"weights": "others"})
    with pytest.raises(RunError, match="weights"):
        open_survey(tmp_path, strange.model_copy(update={"models": (changed,)}), grown=True)


def test_forgotten_rows_are_gone_and_can_be_measured_again(tmp_path):
    path = build_run(tmp_path / "run", models=(PLAIN, PLANTED), data=("words",)).path
    kept = open_run(path).layers.filter(model="lab/plain").collect()
    with open_survey(path, header((PLAIN, PLANTED), ("words",))) as writer:
        writer.forget("lab/planted", "main")
        assert writer.done("lab/planted", "main", "words") == []
        assert open_run(path).missing == ("profile", "phases", "segments", "claims", "coupling")
        assert [pair.rows_read for pair in writer.header.coverage][1] == 0
        writer.write_part(Shard("lab/planted", "main", "words", 0, 2), part_tables(PLANTED, "words", range(2)))
    run = open_run(path)
    assert run.layers.filter(model="lab/planted").select("prompt").unique().collect().height == 2
    assert run.layers.filter(model="lab/plain").collect().equals(kept)
