"""A run that holds something of every experiment."""

from tests.advised import with_lens, with_maps, with_mteb, with_scan, with_training
from tests.compared_run import with_ablation, with_clip
from tests.contrasted import contrasted_run
from tests.experiments.test_attribute_view import with_attribution
from tests.probed import with_probe
from tests.scored_run import with_mcq
from tests.synthetic_run import PLANTED, header, open_survey, write_aggregates
from tests.synthetic_training import CHECKPOINTS

import thalweg
from thalweg.experiments import write_emergence
from thalweg.store import open_run

RISING = [0.2, 0.22, 0.24, 0.23, 0.26, 0.3, 0.4, 0.55, 0.5]


def whole_run(path):
    """Write it and give it."""
    models = (*CHECKPOINTS, PLANTED)
    path = contrasted_run(path, models=models, prompts=20).path
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
    return open_run(path)
