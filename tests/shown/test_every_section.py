"""Whatever an experiment shows, paper and page show the numbers of the same panels."""

from tests.gallery import alone
from tests.painted import assert_every_section_is_painted
from tests.synthetic_run import build_run
from tests.whole_run import whole_run

from thalweg.experiments import experiments


def test_both_painters_paint_exactly_what_each_panel_holds(tmp_path):
    run = build_run(tmp_path / "run")
    with alone():
        assert assert_every_section_is_painted(run) == {"gallery": 18}


def test_every_panel_of_every_experiment_is_painted(tmp_path):
    painted = assert_every_section_is_painted(whole_run(tmp_path / "run"))
    assert set(painted) == {known.name for known in experiments()}
    assert all(painted.values()), painted
