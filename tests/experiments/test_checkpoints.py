"""A training's checkpoints in one run: the numbers of a survey of each, one model in memory, resumed like any run."""

import gc
import json
import math
import shutil
import threading
import time
import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from tests.trained import VALUES, damage, diverged, planted, save_training
from transformers import Trainer, TrainingArguments, default_data_collator

import thalweg
from saved import configured, llama, save
from thalweg.capture import load_model
from thalweg.errors import DataError, ModelError, OverflowInFloat16, RunError, UsageError
from thalweg.experiments import checkpoints, tables_of
from thalweg.experiments._checkpoints.listed import list_checkpoints
from thalweg.experiments._checkpoints.measure import fetch_weights
from thalweg.experiments._survey.measure import ModelSurvey, measure_batch
from thalweg.monitor import MonitorOptions, watch
from thalweg.reference import byte_tokenizer

QUIET = thalweg.SurveyOptions(progress=False, shard_rows=1)
TABLES = (*tables_of("survey").parts, *tables_of("survey").wholes)
STEPS = [f"step{step}" for step in VALUES]
LOAD, FETCH = "thalweg.experiments._over_prompts.load_model", "thalweg.experiments._checkpoints.measure.fetch_weights"
MEASURE = "thalweg.experiments._survey.measure.measure_batch"


@pytest.fixture(scope="module", autouse=True)
def quick_collection():
    """What was imported is not looked through again after every checkpoint, which would take most of the time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return save_training(tmp_path_factory.mktemp("training") / "trained")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three prompts, each a shard and a batch."""
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    lines = [{"text": f"{row} bottles of water " * (1 + row)} for row in range(3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture(scope="module")
def measured(trained, data, tmp_path_factory):
    return measure(trained, data, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def pair(trained, data, tmp_path_factory):
    """The first and the last of them, measured; where little is enough."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "trained").mkdir()
    for step in (0, 40):
        shutil.copytree(trained / f"checkpoint-{step}", folder / "trained" / f"checkpoint-{step}")
    return measure(folder / "trained", data, folder / "run")


@pytest.fixture
def two(pair, tmp_path):
    """Their directory, to be spoiled."""
    return Path(shutil.copytree(pair.run.path.parent / "trained", tmp_path / "trained"))


def listed(directory, models=None, revisions=None):
    """What would be measured, by step, and what not."""
    found = list_checkpoints(models, revisions, directory, QUIET)
    return {one.revision: Path(one.source).name for one in found.models}, found.missing


def measure(directory, data, out, **options):
    return checkpoints(checkpoint_dir=directory, data=data, out=out, options=replace(QUIET, **options))


def tables(run):
    [experiment] = run.experiments("checkpoints")
    found = {name: getattr(run, name).collect() for name in TABLES}
    return {**found, **{name: experiment.table(name).collect() for name in ("curves", "emergence")}}


def assert_same(one, other):
    """Exactly, whatever the order in which checkpoints came."""
    mine, theirs = tables(one), tables(other)
    for name in mine:
        assert_frame_equal(mine[name], theirs[name], check_exact=True, check_row_order=name in ("curves", "emergence"))


def held(run):
    """What is on disk and in the header, by revision."""
    files = {(path.parent.name, path.name.partition(".")[0]) for path in run.path.glob("survey/*/*/*")}
    return {model.revision for model in run.header.models}, len(files)


def means(profile, metric):
    rows = profile.filter(metric=metric).sort("index")
    return dict(zip(rows["index"], rows["mean"], strict=True))


def by_hand(profile):
    """Whether each phenomenon is there, from one checkpoint's averages."""
    ratio, rate, entropy = (means(profile, name) for name in ("norm_ratio", "sink_rate", "entropy_normalized"))
    least = min((state for state in entropy if state >= 1), key=entropy.__getitem__)
    return {
        "massive activations": max(ratio[state] for state in ratio if state >= 1) >= 10,
        "sinks": max(rate.values()) >= 0.3,
        "valley": entropy[least] <= 0.5 * max(entropy[state] for state in entropy if state < least),
    }


def test_phenomena_emerge_at_the_step_where_they_were_planted(measured):
    found = tables(measured.run)
    assert measured.missing == {}
    assert measured.run.status == "finished"
    there = {step: by_hand(found["profile"].filter(revision=step)) for step in STEPS}
    first = {name: next(step for step in STEPS if there[step][name]) for name in there["step0"]}
    assert first == {"massive activations": "step20", "sinks": "step10", "valley": "step20"}  # the plant is right
    assert dict(found["emergence"].select("phenomenon", "revision").iter_rows()) == first
    assert found["emergence"]["reason"].to_list() == [None] * 3
    ratios = found["curves"].filter(metric="max_norm_ratio")
    assert ratios.select("revision", "step", "order").rows() == [
        (f"step{step}", step, order) for order, step in enumerate(VALUES)
    ]
    parameters = sum(weight.numel() for weight in planted(None).parameters())
    assert found["curves"]["parameters"].unique().to_list() == [parameters]


def test_numbers_are_those_of_a_survey_of_each_checkpoint(measured, trained, data, tmp_path):
    found = tables(measured.run)
    for step in (10, 40):
        alone = thalweg.survey(str(trained / f"checkpoint-{step}"), data, out=tmp_path / str(step), options=QUIET)
        for name in TABLES:
            mine = found[name].filter(revision=f"step{step}").drop("model", "revision")
            own = getattr(alone, name).collect().drop("model", "revision")
            assert_frame_equal(mine, own, check_exact=True)


def test_the_order_is_that_of_training_and_not_of_names(trained, data, tmp_path):
    """By name, checkpoint-100 comes before checkpoint-20."""
    save(planted(2500.0), tmp_path / "many" / "checkpoint-100")
    for step in (20, 0):
        (tmp_path / "many" / f"checkpoint-{step}").symlink_to(trained / f"checkpoint-{step}")
    found = measure(tmp_path / "many", data, tmp_path / "run")
    assert [model.revision for model in found.run.header.models] == ["step0", "step20", "step100"]
    curve = tables(found.run)["curves"].filter(metric="max_norm_ratio")
    assert curve["step"].to_list() == [0, 20, 100]
    assert curve["value"].is_sorted()


def test_one_model_is_in_memory_at_a_time(data, tmp_path, monkeypatch):
    """Of those, too, that are left out: damaged, or out of float16's range while they run."""
    directory = save_training(tmp_path / "trained", (0, 10, 20, 40))
    damage(directory / "checkpoint-10")
    save(planted(80000.0), directory / "checkpoint-30")
    alive, before = weakref.WeakSet(), []

    def load(identified):
        before.append(len(alive))
        model = load_model(identified)
        alive.add(model)
        return model

    monkeypatch.setattr(LOAD, load)
    found = measure(directory, data, tmp_path / "run", dtype="float16")
    assert list(found.missing) == ["step10", "step30"]
    assert before == [0] * 5
    assert not alive


class Spy:
    """Who was loaded and fetched, in which order: a fetch begins before the measurement beside it and outlasts it."""

    def __init__(self, monkeypatch):
        self.seen, self.fetching, self.released = [], threading.Event(), threading.Event()
        monkeypatch.setattr(LOAD, self.load)
        monkeypatch.setattr(FETCH, self.fetch)
        monkeypatch.setattr(MEASURE, self.measure)
        release = ModelSurvey.release
        monkeypatch.setattr(ModelSurvey, "release", lambda one: (release(one), self.released.set()))
        self.alone = False

    def load(self, identified):
        self.seen.append(f"load {identified.revision}")
        return load_model(identified)

    def fetch(self, model, stopped):
        self.released.clear()
        self.fetching.set()
        assert self.released.wait(30)
        time.sleep(0.1)  # to be waited for
        fetch_weights(model, stopped)
        self.fetching.clear()
        self.seen.append(f"fetched {model.revision}")

    def measure(self, *arguments):
        if len([one for one in self.seen if one.startswith("load")]) < len(STEPS) and not self.alone:
            assert self.fetching.wait(30), "nothing is fetched while this one runs"
        return measure_batch(*arguments)


def test_the_next_checkpoint_is_fetched_while_this_one_runs(trained, data, tmp_path, measured, monkeypatch):
    spy = Spy(monkeypatch)
    found = measure(trained, data, tmp_path / "run", shard_rows=64)
    assert spy.seen == [
        "load step0",
        *(one for step in STEPS[1:] for one in (f"fetched {step}", f"load {step}")),
    ]
    assert_frame_equal(tables(found.run)["curves"], tables(measured.run)["curves"], rel_tol=1e-5)  # other batches


def test_nothing_is_fetched_ahead_without_prefetch(two, data, tmp_path, monkeypatch):
    spy = Spy(monkeypatch)
    spy.alone = True
    checkpoints(checkpoint_dir=two, data=data, out=tmp_path / "run", options=QUIET, prefetch=False)
    assert spy.seen == ["load step0", "load step40"]


def test_what_goes_wrong_while_fetching_is_told_when_it_is_loaded(two, data, tmp_path, pair, monkeypatch):
    monkeypatch.setattr(FETCH, lambda *_: 1 / 0)
    assert_same(measure(two, data, tmp_path / "run").run, pair.run)


def counted(monkeypatch):
    loaded = []
    monkeypatch.setattr(LOAD, lambda identified: loaded.append(identified.revision) or load_model(identified))
    return loaded


def copied(pair, tmp_path):
    return shutil.copytree(pair.run.path, tmp_path / "run")


def test_a_finished_run_loads_nothing(two, data, tmp_path, pair, monkeypatch):
    loaded = counted(monkeypatch)
    again = measure(two, data, copied(pair, tmp_path))
    assert (loaded, again.missing, again.run.status) == ([], {}, "finished")
    assert_same(again.run, pair.run)


def test_a_run_grows_by_the_checkpoints_that_are_new(two, data, tmp_path, pair, monkeypatch):
    (two / "checkpoint-0").rename(tmp_path / "later")
    measure(two, data, tmp_path / "run")
    (tmp_path / "later").rename(two / "checkpoint-0")
    loaded = counted(monkeypatch)
    grown = measure(two, data, tmp_path / "run")
    assert loaded == ["step0"]
    assert_same(grown.run, pair.run)


def test_a_checkpoint_that_was_deleted_since_stays_in_the_run(two, data, tmp_path, pair):
    """A trainer with save_total_limit removes the oldest."""
    shutil.rmtree(two / "checkpoint-0")
    found = measure(two, data, copied(pair, tmp_path))
    assert found.missing == {}
    assert_same(found.run, pair.run)


def stopped_at(number, error, monkeypatch):
    """Raise in the batch of this number, from 0."""
    calls = Counter()

    def measuring(*arguments):
        calls["all"] += 1
        if calls["all"] == number + 1:
            raise error
        return measure_batch(*arguments)

    monkeypatch.setattr(MEASURE, measuring)


def interrupted(directory, data, out):
    """In the second shard of the second checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        stopped_at(4, KeyboardInterrupt, patch)
        with pytest.raises(KeyboardInterrupt):
            measure(directory, data, out)


def test_an_interrupted_run_goes_on_to_the_tables_of_an_undisturbed_one(two, data, tmp_path, pair, monkeypatch):
    interrupted(two, data, tmp_path / "run")
    assert thalweg.open_run(tmp_path / "run").status == "interrupted"
    loaded = counted(monkeypatch)
    found = measure(two, data, tmp_path / "run")
    assert loaded == ["step40"]
    assert_same(found.run, pair.run)


@pytest.mark.parametrize("harm", ["cut short", "a shard is missing", "other shapes than configured"])
def test_a_checkpoint_that_cannot_be_loaded_is_named_and_left_out(harm, two, data, tmp_path, pair):
    bad = two / "checkpoint-30"
    save(planted(60.0), bad, **({"max_shard_size": "40KB"} if "shard" in harm else {}))
    if harm == "cut short":
        damage(bad)
    elif "shard" in harm:
        sorted(bad.glob("model-*.safetensors"))[-1].unlink()
    else:
        configured(bad, intermediate_size=96)
    found = measure(two, data, copied(pair, tmp_path))
    assert list(found.missing) == ["step30"]
    said = {
        "cut short": "are damaged",
        "a shard is missing": "cannot be loaded",
        "other shapes than configured": "other shapes",
    }
    assert said[harm] in found.missing["step30"]
    assert found.run.status == "finished"
    assert held(found.run) == held(pair.run)
    assert_same(found.run, pair.run)


def test_out_of_float16_s_range_is_named_and_left_out(data, tmp_path):
    directory = save_training(tmp_path / "trained", (0, 20))
    save(planted(80000.0), directory / "checkpoint-10")
    found = measure(directory, data, tmp_path / "run", dtype="float16")
    assert "--dtype bfloat16 or float32" in found.missing["step10"]
    assert held(found.run)[0] == {"step0", "step20"}
    assert tables(found.run)["curves"]["revision"].unique().sort().to_list() == ["step0", "step20"]


@pytest.mark.parametrize("before", [False, True])
def test_nothing_half_written_stays_of_a_checkpoint_that_overflows_later(before, two, data, tmp_path, monkeypatch):
    """Its first shard is fine; a run that was stopped in between ends the same."""
    if before:
        interrupted(two, data, tmp_path / "run")
    stopped_at(0 if before else 4, OverflowInFloat16("state 3 holds an Inf."), monkeypatch)
    found = measure(two, data, tmp_path / "run")
    assert found.missing == {"step40": "state 3 holds an Inf."}
    assert held(found.run) == ({"step0"}, 3)
    assert tables(found.run)["layers"]["revision"].unique().to_list() == ["step0"]
    assert tables(found.run)["curves"]["revision"].unique().to_list() == ["step0"]


def test_rows_of_an_earlier_call_stay_if_a_checkpoint_cannot_be_loaded_any_more(two, data, tmp_path, monkeypatch):
    measure(two, data, tmp_path / "run", limit=1)

    def load(model):
        if model.revision == "step40":
            raise ModelError("the hub is away.")
        return load_model(model)

    monkeypatch.setattr(LOAD, load)
    found = measure(two, data, tmp_path / "run")
    assert found.missing == {"step40": "the hub is away. What was measured of it before stays."}
    kept = {pair.revision: pair.prompts_kept for pair in found.run.coverage}
    assert kept == {"step0": 3, "step40": 1}


def test_where_none_can_be_measured_the_first_reason_is_the_error(two, data, tmp_path):
    for step in (0, 40):
        damage(two / f"checkpoint-{step}")
    with pytest.raises(ModelError, match="damaged"):
        measure(two, data, tmp_path / "run")
    run = thalweg.open_run(tmp_path / "run")
    assert run.status == "failed"
    assert not run.prompts.collect().height


def test_a_checkpoint_that_diverged_is_measured_and_has_no_value(two, data, tmp_path, pair):
    diverged(two / "checkpoint-50")
    found = measure(two, data, copied(pair, tmp_path))
    assert found.missing == {}
    assert found.run.nonfinite_states > 0
    curves = tables(found.run)["curves"].filter(revision="step50")
    values = dict(curves.select("metric", "value").iter_rows())
    assert math.isfinite(values["max_norm_ratio"])  # state 1 is still there
    assert not by_hand(thalweg.open_run(found.run.path).profile.filter(revision="step50").collect())["valley"]
    emergence = {row["phenomenon"]: row for row in tables(found.run)["emergence"].iter_rows(named=True)}
    assert emergence["massive activations"]["revision"] is None
    assert "it was there at step40 and lost again" in emergence["massive activations"]["reason"]


# what belongs together


def test_checkpoints_of_other_shapes_are_refused(two, data, tmp_path):
    save(planted(60.0, blocks=3), two / "checkpoint-20")
    with pytest.raises(UsageError, match=r"step0 has 4 blocks, 4 heads, width 32, step20 has 3 blocks"):
        measure(two, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_extended_by_checkpoints_of_another_shape(data, tmp_path, pair):
    save(planted(60.0, blocks=3), tmp_path / "trained" / "checkpoint-50")
    with pytest.raises(UsageError, match="step0, which the run holds, has 4 blocks"):
        measure(tmp_path / "trained", data, copied(pair, tmp_path))


def test_a_run_is_not_extended_by_checkpoints_with_another_tokenizer(data, tmp_path, pair):
    bad = tmp_path / "trained" / "checkpoint-50"
    save(planted(60.0), bad)
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["water"])
    tokenizer.save_pretrained(bad)
    with pytest.raises(UsageError, match="step0, which the run holds, and step50 have different tokenizers"):
        measure(tmp_path / "trained", data, copied(pair, tmp_path))


def test_checkpoints_with_other_tokenizers_are_refused(two, data, tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["water"])
    tokenizer.save_pretrained(two / "checkpoint-40")
    with pytest.raises(UsageError, match="step0 and step40 have different tokenizers"):
        measure(two, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_that_pads_and_cuts_makes_the_same_prompts(two):
    """What the last call and a collator left in tokenizer.json makes no other tokens."""
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.bos_token
    tokenizer(["one", "two and"], padding=True, truncation=True, max_length=5)
    tokenizer.save_pretrained(two / "checkpoint-40")
    assert listed(two) == ({"step0": "checkpoint-0", "step40": "checkpoint-40"}, {})


def test_a_step_whose_weights_changed_is_another_run(two, data, tmp_path, pair):
    save(planted(99.0), two / "checkpoint-40")
    with pytest.raises(RunError, match="weights of trained@step40"):
        measure(two, data, copied(pair, tmp_path))


# directories as people have them


@pytest.mark.parametrize("name", ["checkpoint-{}", "step{}", "global_step{}", "step_{}", "iter-{}", "{}"])
def test_directories_may_have_any_usual_name(name, two):
    for step in (0, 40):
        (two / f"checkpoint-{step}").rename(two / name.format(step))
    (two / "latest").symlink_to(two / name.format(40))
    (two / "global_step40").mkdir(exist_ok=True)  # DeepSpeed's, beside the checkpoint or the checkpoint itself
    (two / "logs").mkdir()
    (two / "trainer_state.json").write_text("{}")
    assert listed(two) == ({f"step{step}": name.format(step) for step in (0, 40)}, {})


def test_a_link_to_a_checkpoint_of_the_same_step_is_the_same_checkpoint(two):
    (two / "step40").symlink_to(two / "checkpoint-40")
    assert listed(two) == ({"step0": "checkpoint-0", "step40": "checkpoint-40"}, {})


def test_weights_in_shards_and_a_tokenizer_beside_the_checkpoints_give_the_same_numbers(data, tmp_path, pair):
    directory = save_training(tmp_path / "trained", (0, 40), tokenizer=False, max_shard_size="40KB")
    byte_tokenizer().save_pretrained(directory)
    assert len(list((directory / "checkpoint-0").glob("model-*.safetensors"))) > 1
    assert_same(measure(directory, data, tmp_path / "run").run, pair.run)


def test_what_is_no_checkpoint_is_named_with_its_reason(two):
    for name in ("best", "checkpoint-20"):
        shutil.copytree(two / "checkpoint-0", two / name)
    (two / "checkpoint-30").mkdir()
    (two / "checkpoint-20" / "model.safetensors").unlink()
    torch.save({}, two / "checkpoint-20" / "optimizer.pt")
    assert listed(two)[1] == {
        "best": "its name has no step number",
        "checkpoint-20": "it has no weights",
        "checkpoint-30": "it has no config.json",
    }


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Directories that cannot be meant."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "empty" / "logs").mkdir(parents=True)
    save(planted(None), folder / "started" / "checkpoint-1")
    for name in ("checkpoint-1", "step1"):
        shutil.copytree(folder / "started" / "checkpoint-1", folder / "twice" / name)
    (folder / "started" / "checkpoint-1" / "model.safetensors").unlink()
    save_training(folder / "mute", (0, 10), tokenizer=False)
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "or several MODELs of one family; got none alone"),
        ({"models": "org/one"}, "got org/one alone"),
        ({"models": "org/one", "revisions": ["step1"], "checkpoint_dir": "x"}, "pass one of them"),
        ({"models": ["org/one", "org/two"], "revisions": ["step1"]}, "--revisions are those of one MODEL on the hub"),
        ({"revisions": ["step1"]}, "one MODEL on the hub; got 0 models"),
        ({"models": "planted", "revisions": ["step1"]}, "planted is a directory, which has no revisions"),
        ({"models": "org/one", "revisions": ["step1", ""]}, "got an empty name"),
        ({"models": "org/one", "revisions": []}, "--revisions must name at least one"),
        ({"models": "org/one", "revisions": ["step1", "step1"]}, "--revisions step1 is given twice"),
        ({"models": ["a", "b"], "checkpoint_dir": "empty"}, "--checkpoint-dir holds checkpoints of one MODEL; got 2"),
        ({"checkpoint_dir": "x"}, "--checkpoint-dir x is no directory"),
        ({"checkpoint_dir": "empty"}, "empty holds no checkpoint: expected directories such as checkpoint-100"),
        ({"checkpoint_dir": "started"}, "checkpoint-1: it has no weights."),
        ({"checkpoint_dir": "twice"}, "checkpoint-1 and step1 are both step 1; keep one of them"),
        ({"checkpoint_dir": "mute"}, "mute has no tokenizer: expected tokenizer.json"),
        ({"checkpoint_dir": "mute", "options": thalweg.SurveyOptions(revision="step1")}, "--revision goes with models"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(arguments, said, data, places, monkeypatch):
    monkeypatch.chdir(places)
    with pytest.raises(UsageError) as refused:
        checkpoints(**{"data": data, "options": QUIET, **arguments})
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (places / "runs").exists()


def test_data_without_a_prompt_is_an_error_again_and_again(two, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": ""}\n')
    for _ in range(3):  # one checkpoint is met by each call, the third meets none
        with pytest.raises(DataError, match="empty"):
            measure(two, str(empty), tmp_path / "run")
        assert thalweg.open_run(tmp_path / "run").status == "failed"


# sizes of one family


def test_models_of_several_sizes_share_a_run(data, tmp_path):
    sizes = {"large": planted(2000.0, blocks=6, width=64), "small": planted(2000.0)}
    names = [save(model, tmp_path / name) for name, model in sizes.items()]
    found = checkpoints(names, data=data, out=tmp_path / "run", options=QUIET)
    curves, emergence = (tables(found.run)[name] for name in ("curves", "emergence"))
    counts = {name: sum(weight.numel() for weight in model.parameters()) for name, model in sizes.items()}
    assert dict(curves.select("model", "parameters").unique().iter_rows()) == {
        name: counts[name.rsplit("/", 1)[-1]] for name in names
    }
    assert emergence.is_empty()
    alone = thalweg.survey(names, data, out=tmp_path / "alone", options=QUIET)
    assert_frame_equal(found.run.profile.collect(), alone.profile.collect(), check_exact=True)


def test_a_size_that_cannot_be_loaded_is_named(data, tmp_path):
    names = [save(planted(2000.0, width=width), tmp_path / str(width)) for width in (32, 48)]
    damage(tmp_path / "32")
    found = checkpoints(names, data=data, out=tmp_path / "run", options=QUIET)
    assert list(found.missing) == [names[0]]
    assert [model.name for model in found.run.header.models] == [names[1]]


def test_runs_are_called_after_what_is_compared(trained, data, monkeypatch):
    found = [
        list_checkpoints(models, None, directory, QUIET)
        for models, directory in [
            (None, trained),
            ("lab/mine", trained),
            ([trained / "checkpoint-0", trained / "checkpoint-10"], None),
        ]
    ]
    directories = [one.directory for one in found]
    assert directories == ["trained-checkpoints", "mine-checkpoints", "checkpoint-0-sizes"]
    assert [one.models[0].name for one in found[:2]] == ["trained", "lab/mine"]
    monkeypatch.chdir(trained.parent)
    run = checkpoints(checkpoint_dir="trained", data=data, options=replace(QUIET, limit=1)).run
    assert run.path == Path("runs/trained-checkpoints")


# a training and its monitor


def test_checkpoints_of_a_training_have_the_numbers_that_its_monitor_logged(tmp_path):
    """Bit for bit: the same weights, prompts and batches, on the same machine."""
    torch.manual_seed(1)
    rows = [{"input_ids": (ids := torch.randint(0, 256, (24,))), "labels": ids} for _ in range(12)]
    settings = TrainingArguments(
        output_dir=str(tmp_path / "training"),
        max_steps=6,
        per_device_train_batch_size=2,
        learning_rate=0.03,
        save_steps=2,
        logging_strategy="no",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model=llama(max_position_embeddings=512).train(),
        args=settings,
        train_dataset=rows,
        data_collator=default_data_collator,
        processing_class=byte_tokenizer(),
    )
    watch(trainer, out=tmp_path / "monitor", options=MonitorOptions(every=2, strict=True))
    trainer.train()
    files = {path.name for path in (tmp_path / "training" / "checkpoint-6").iterdir()}
    assert {"optimizer.pt", "trainer_state.json", "tokenizer.json"} <= files
    options = thalweg.SurveyOptions(limit=8, max_length=256, progress=False)
    found = checkpoints(checkpoint_dir=tmp_path / "training", out=tmp_path / "run", options=options)
    assert found.missing == {}
    logged = thalweg.open_run(tmp_path / "monitor")
    assert [model.revision for model in logged.header.models] == ["step0", "step2", "step4", "step6"]
    for name in ("layers", "heads", "prompts", "profile", "curves"):
        mine, its = (tables(run)[name].drop("model", "order", strict=False) for run in (found.run, logged))
        its = its.filter(pl.col("revision") != "step0")  # the trainer saves no checkpoint before its first step
        assert mine["revision"].n_unique() == 3
        assert_frame_equal(mine, its, check_exact=True)
    entropy = {
        step: means(found.run.profile.filter(revision=f"step{step}").collect(), "entropy")[1] for step in (2, 4, 6)
    }
    assert len(set(entropy.values())) == 3  # something was learned in between
