"""Whatever an experiment shows, paper and page show the numbers of the same panels."""

from tests.advised import with_lens, with_maps, with_mteb, with_scan, with_training
from tests.compared_run import with_ablation, with_clip
from tests.contrasted import contrasted_run
from tests.experiments.test_attribute_view import with_attribution
from tests.gallery import alone
from tests.painted import assert_every_section_is_painted
from tests.probed import with_probe
from tests.scored_run import with_mcq
from tests.synthetic_run import PLANTED, build_run, header, open_survey, write_aggregates
from tests.synthetic_training import CHECKPOINTS

import thalweg
from thalweg.experiments import experiments, write_emergence
from thalweg.store import open_run

RISING = [0.2, 0.22, 0.24, 0.23, 0.26, 0.3, 0.4, 0.55, 0.5]


def test_both_painters_paint_exactly_what_each_panel_holds(tmp_path):
    run = build_run(tmp_path / "run")
    with alone():
        assert assert_every_section_is_painted(run) == {"gallery": 18}


def test_every_panel_of_every_experiment_is_painted(tmp_path):
    models = (*CHECKPOINTS, PLANTED)
    path = contrasted_run(tmp_path / "run", models=models, prompts=20).path
    with open_survey(path, header(models, ("words",))) as writer:
        write_aggregates(writer, models, ("words",))
        write_emergence(writer)
        writer.update(status="finished")
    thalweg.contrast(path)
    for add in (with_attribution, with_ablation, with_clip, with_probe, with_mcq):
        add(path)
    with_lens(path, [900.0, 400.0, 200.0, 100.0, 60.0, 44.0, 41.5, 40.2, 40.0])
    with_scan(path, {"A": [1.0, 2.0, 900.0, 800.0, 30.0], "The": [1.0, 1.5, 3.0, 2.0, 1.0]})
    with_maps(path)
    with_training(path, [[3.0, 2.0], [2.5, 1.5], [2.0, 1.0]])
    with_mteb(path, {"STS12": RISING, "Banking77Classification": RISING})
    painted = assert_every_section_is_painted(open_run(path))
    assert set(painted) == {known.name for known in experiments()}
    assert all(painted.values()), painted
