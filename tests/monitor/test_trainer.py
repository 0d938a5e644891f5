"""The monitor in transformers' Trainer: the same training, its own logging unchanged, numbers at every tracker."""

import dataclasses
import logging

import pytest
import torch
from tests.monitor import small
from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator

from saved import llama
from thalweg.errors import RunError, UsageError
from thalweg.monitor import Alarms, MonitorOptions, ThalwegCallback, watch
from thalweg.store import open_run

STEPS = 6
NAME = "thalweg/norm_ratio/max"


class Sequences(torch.utils.data.Dataset):
    def __init__(self):
        self.tokens = small.sequences()

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, row):
        return {"input_ids": self.tokens[row], "labels": self.tokens[row]}


class Tracker(TrainerCallback):
    """What W&B and MLflow get to see."""

    def __init__(self):
        self.logged = []

    def on_log(self, _, state, __, logs=None, **given):
        assert given["optimizer"] is not None
        self.logged.append((state.global_step, dict(logs)))


def trainer(path, *callbacks, model=None, steps=STEPS, **options):
    arguments = TrainingArguments(
        output_dir=str(path),
        max_steps=steps,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=3e-3,
        logging_steps=3,
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        seed=0,
        **{"report_to": "none", "save_strategy": "no"} | options,
    )
    torch.manual_seed(0)
    return Trainer(
        model=model or small.model(),
        args=arguments,
        train_dataset=Sequences(),
        data_collator=default_data_collator,
        processing_class=small.TOKENIZER,
        callbacks=list(callbacks),
    )


def watched(made, path, **options):
    settings = MonitorOptions(**{"every": 2, "max_length": 32, "strict": True} | options)
    return watch(made, out=path, prompts=small.TEXTS, options=settings)


def ended(made, **options):
    small.seed()  # the tests' own checks of types have drawn numbers
    found = made.train(**options)
    return small.ending(made.model, made.optimizer.optimizer, [found.training_loss])


def scalars(logged):
    return {step: logs for step, logs in logged if any(name.startswith("thalweg/") for name in logs)}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A training without a monitor: how it ends, and what it logs."""
    tracker = Tracker()
    made = trainer(tmp_path_factory.mktemp("alone"), tracker)
    return ended(made), tracker.logged, made.state.log_history


def without_times(logs):
    return {name: value for name, value in logs.items() if "runtime" not in name and "per_second" not in name}


def test_a_training_ends_bit_equal_and_its_own_logging_is_unchanged(tmp_path, alone):
    ending, logged, history = alone
    tracker = Tracker()
    made = trainer(tmp_path / "trainer", tracker)
    callback = watched(made, tmp_path / "run", every=3)  # where the loss is logged too
    ended(made).assert_equals(ending)
    own = [(step, logs) for step, logs in tracker.logged if step not in scalars([(step, logs)])]
    assert [(step, without_times(logs)) for step, logs in own] == [(step, without_times(logs)) for step, logs in logged]
    kept = [logs for logs in made.state.log_history if not any(name.startswith("thalweg/") for name in logs)]
    assert list(map(without_times, kept)) == list(map(without_times, history))
    assert small.record_steps(tmp_path / "run") == [0, 3, 6]
    assert open_run(tmp_path / "run").status == "finished"
    assert callback.monitor.seconds > 0


def test_trackers_and_the_log_history_get_every_number_with_its_step(tmp_path):
    tracker = Tracker()
    made = trainer(tmp_path / "trainer", tracker)
    watched(made, tmp_path / "run", every=4)
    made.train()
    found = scalars(tracker.logged)
    assert list(found) == [0, 4, 6]  # the last step is measured too
    profile = open_run(tmp_path / "run").profile.filter(site="state", metric="norm_ratio").collect()
    for step, logs in found.items():
        means = profile.filter(revision=f"step{step}").sort("index")["mean"]
        assert [logs[f"thalweg/norm_ratio/state_{state:02d}"] for state in range(3)] == means.to_list()
    history = {one["step"]: one[NAME] for one in made.state.log_history if NAME in one}
    assert history == {step: logs[NAME] for step, logs in found.items()}


def test_tensorboard_draws_them(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    made = trainer(tmp_path / "trainer", report_to="tensorboard")
    watched(made, tmp_path / "run")
    made.train()
    [file] = (tmp_path / "trainer").rglob("events.out.tfevents.*")
    events = reading.EventAccumulator(str(file)).Reload()
    drawn = [(event.step, event.value) for event in events.Scalars(f"train/{NAME}")]
    history = [(one["step"], one[NAME]) for one in made.state.log_history if NAME in one]
    assert [step for step, _ in drawn] == [0, 2, 4, 6]
    assert drawn == [(step, pytest.approx(value)) for step, value in history]
    assert [event.step for event in events.Scalars("train/loss")] == [3, 6]


def test_a_training_taken_up_from_a_checkpoint_goes_on_in_the_same_run(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 3}
    whole = trainer(tmp_path / "whole", **saving)
    watched(whole, tmp_path / "whole-run")
    ending = ended(whole)
    first = trainer(tmp_path / "parts", Stopping(5), **saving)
    watched(first, tmp_path / "run")
    with pytest.raises(InterruptedError):
        ended(first)
    assert small.record_steps(tmp_path / "run") == [0, 2, 4]
    assert open_run(tmp_path / "run").status == "started"
    resumed = trainer(tmp_path / "parts", **saving)
    watched(resumed, tmp_path / "run")
    found = ended(resumed, resume_from_checkpoint=True)  # step 4 is reached once more
    found.assert_equals(dataclasses.replace(ending, losses=found.losses))  # those are of this session alone
    tables = [small.tables(tmp_path / name) for name in ("whole-run", "run")]
    for name, rows in tables[0].items():
        assert rows.equals(tables[1][name], null_equal=True), name


class Stopping(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, _, state, *__, **___):
        if state.global_step == self.step:
            raise InterruptedError


def test_another_training_in_the_directory_is_refused_before_the_first_step(tmp_path):
    made = trainer(tmp_path / "trainer", steps=1)
    watched(made, tmp_path / "run")
    made.train()
    other = trainer(tmp_path / "other", model=llama(num_hidden_layers=3).train())
    watched(other, tmp_path / "run", strict=False)
    with pytest.raises(RunError, match="holds the training of another model"):
        other.train()
    assert other.state.global_step == 0


def test_an_alarm_may_stop_the_training(tmp_path):
    made = trainer(tmp_path / "trainer")
    callback = watched(made, tmp_path / "run", alarms=Alarms(massive_above=1e-3, stop=True))
    made.train()
    assert made.state.global_step < STEPS
    assert callback.monitor.alarms
    assert open_run(tmp_path / "run").status == "finished"


def test_added_as_an_ordinary_callback_it_writes_its_directory_and_says_so(tmp_path, caplog, alone):
    callback = ThalwegCallback(small.TOKENIZER, out=tmp_path / "run", prompts=small.TEXTS, options=small.OPTIONS)
    made = trainer(tmp_path / "trainer", callback)
    made.args.report_to = ["wandb"]
    with caplog.at_level(logging.WARNING, "thalweg.monitor"):
        ended(made).assert_equals(alone[0])
    assert "also reaches wandb" in caplog.text
    assert small.record_steps(tmp_path / "run") == [0, 2, 4, 6]


def test_a_trainer_without_a_tokenizer_is_told_what_to_pass(tmp_path):
    made = trainer(tmp_path / "trainer")
    made.processing_class = None
    with pytest.raises(UsageError, match="tokenizer="):
        watch(made, out=tmp_path / "run")
