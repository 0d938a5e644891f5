"""What is logged, and when the alarm is raised."""

import logging
import math

import polars as pl
import pytest
import torch
from tests.monitor import small

from thalweg.errors import UsageError
from thalweg.monitor import Alarms, MonitorOptions
from thalweg.monitor._options import Watch
from thalweg.monitor._record import SHOWN, scalars
from thalweg.store import open_run


def enlarged(model, value):
    """A row of block 0's MLP that writes ``value`` times as much."""
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(value)
    return model


def test_scalars_are_the_averages_of_the_run(tmp_path):
    found = small.monitor(tmp_path).step(small.model(), 4)
    run = open_run(tmp_path)
    layers, heads = run.layers.collect(), run.heads.collect()
    for state in range(3):
        own = layers.filter(state=state)
        assert found[f"thalweg/entropy_normalized/state_{state:02d}"] == pytest.approx(own["entropy_normalized"].mean())
        mean = math.exp(own["norm_ratio"].log().mean())
        assert found[f"thalweg/norm_ratio/state_{state:02d}"] == pytest.approx(mean)
    rates = [(heads.filter(block=block)["sink_score"] >= 0.3).mean() for block in range(2)]
    assert [found[f"thalweg/sink_rate/block_{block:02d}"] for block in range(2)] == pytest.approx(rates)
    assert found["thalweg/sink_rate/max"] == pytest.approx(max(rates))
    own = [found[f"thalweg/norm_ratio/state_{state:02d}"] for state in (1, 2)]
    assert found["thalweg/norm_ratio/max"] == max(own)
    peak = max(layers["peak_value"], key=abs)
    assert found["thalweg/peak_value/max"] == peak
    slack = (layers["entropy_bound_massive"] - layers["entropy"]).min()
    assert found["thalweg/entropy_bound/slack"] == slack >= 0
    assert found["thalweg/nonfinite_states"] == 0
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())


def test_of_a_deep_model_evenly_spaced_states_are_shown_and_extremes_are_over_all():
    states = 97
    profile = pl.DataFrame(
        {
            "site": ["state"] * states,
            "metric": ["norm_ratio"] * states,
            "index": list(range(states)),
            "mean": [1000.0, *[float(state == 50) + 1 for state in range(1, states)]],
        }
    )
    layers = pl.DataFrame({name: [1.0] for name in ("peak_value", "entropy", "entropy_bound_massive")})
    found = scalars(profile, layers)
    shown = [name for name in found if name.startswith("norm_ratio/state_")]
    assert len(shown) == SHOWN
    assert shown[0] == "norm_ratio/state_00"
    assert shown[-1] == "norm_ratio/state_96"
    assert found["norm_ratio/max"] == 2.0  # state 0 was written by no block


def test_an_activation_above_the_limit_raises_the_alarm_and_one_at_it_does_not(tmp_path, caplog):
    model = enlarged(small.model(), 50.0)
    quiet = small.monitor(tmp_path / "quiet")
    peak = abs(quiet.step(model, 0)["thalweg/peak_value/max"])
    heard = []
    for name, limit, count in (("at", peak, 0), ("below", peak * 0.99, 1)):
        alarms = Alarms(massive_above=limit, on_alarm=heard.append)
        watching = small.monitor(tmp_path / name, alarms=alarms)
        with caplog.at_level(logging.WARNING, "thalweg.monitor"):
            found = watching.step(model, 7)
        assert len(watching.alarms) == len(heard) == found["thalweg/alarms"] == count
        assert not watching.should_stop
    [alarm] = heard
    assert (alarm.kind, alarm.step) == ("massive activation", 7)
    assert abs(alarm.value) == pytest.approx(peak)
    assert alarm.message == caplog.records[-1].getMessage()


def test_what_is_not_finite_is_above_every_limit(tmp_path):
    model = small.model()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = math.inf
    watching = small.monitor(tmp_path, alarms=Alarms(massive_above=1e30))
    assert watching.step(model, 0)["thalweg/nonfinite_states"] > 0
    assert [alarm.value for alarm in watching.alarms] == [math.inf]


@pytest.mark.parametrize(
    ("ratios", "raised"),
    [
        ([1.0, 2.0, 3.0, 4.0, 5.0], [3, 4]),
        ([1.0, 2.0, 2.0, 3.0, 4.0], []),
        ([5.0, 1.0, 2.0, 3.0, 4.0], [4]),
        ([4.0, 3.0, 2.0, 1.0, 0.5], []),
    ],
)
def test_a_ratio_that_grows_over_k_measurements_raises_the_alarm(ratios, raised):
    watch = Watch(Alarms(ratio_growing_for=3))
    for step, ratio in enumerate(ratios):
        watch.look(step, {"norm_ratio/max": ratio}, ratios[:step])
    assert [alarm.step for alarm in watch.raised] == raised


def test_a_growing_ratio_is_seen_in_a_model_and_asks_for_an_end(tmp_path):
    model = small.model()
    with torch.no_grad():
        model.model.embed_tokens.weight[256] *= 4  # the first token's row
    watching = small.monitor(tmp_path, alarms=Alarms(ratio_growing_for=2, stop=True))
    stops = []
    for step in range(4):
        with torch.no_grad():
            model.model.embed_tokens.weight[256] *= 2
        watching.step(model, step)
        stops.append(watching.should_stop)
    assert stops == [False, False, True, True]
    assert {alarm.kind for alarm in watching.alarms} == {"growing norm ratio"}


def test_a_ratio_that_grew_before_a_resumption_counts(tmp_path):
    """A process a measurement, and one step that is measured again: what counts is on disk."""
    model, alarms = small.model(), Alarms(ratio_growing_for=2)
    raised = []
    for step, factor in ((0, 8), (10, 2), (20, 2), (20, 1), (15, 3 / 4), (30, 2)):
        with torch.no_grad():
            model.model.embed_tokens.weight[256] *= factor
        with small.monitor(tmp_path, alarms=alarms) as watching:
            watching.measure(model, step)
        raised.append([(alarm.step, alarm.kind) for alarm in watching.alarms])
    kind = "growing norm ratio"
    # at 15 it is above those of 0 and 10, whatever it was at 20
    assert raised == [[], [], [(20, kind)], [(20, kind)], [(15, kind)], [(30, kind)]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Alarms(massive_above=0.0), "above 0"),
        (lambda: Alarms(massive_above=math.nan), "above 0"),
        (lambda: Alarms(ratio_growing_for=0), "from 1"),
        (lambda: Alarms(stop=True), "need an alarm"),
        (lambda: MonitorOptions(every=0), "every must be an integer"),
        (lambda: MonitorOptions(prompts=0), "prompts must be an integer"),
        (lambda: MonitorOptions(max_length=0), "max-length"),
        (lambda: MonitorOptions(bos="sometimes"), "bos must be"),
        (lambda: MonitorOptions(tau=2.0), "tau"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make()
