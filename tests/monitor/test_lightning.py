"""The monitor in Lightning: the same training, numbers at its loggers, and a clear word where it is not installed."""

import sys
import warnings

import pytest
import torch
from tests.monitor import small

from saved import llama
from thalweg.errors import RunError, UsageError
from thalweg.monitor import Alarms, MonitorOptions, ThalwegLightningCallback
from thalweg.monitor import _lightning as own
from thalweg.store import open_run

STEPS = 6


def test_without_lightning_the_name_is_there_and_using_it_says_what_to_install(tmp_path, monkeypatch):
    for package in own.PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)
    assert own._callback_class() is object
    monkeypatch.setattr(own, "Callback", object)
    with pytest.raises(UsageError, match="pip install lightning"):
        ThalwegLightningCallback(small.TOKENIZER, out=tmp_path)


@pytest.fixture(scope="module")
def lightning():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Lightning imports
        return pytest.importorskip("lightning.pytorch")


@pytest.fixture
def fit(lightning, tmp_path):
    class Module(lightning.LightningModule):
        def __init__(self, model):
            super().__init__()
            self.inner = model

        def training_step(self, batch, _):
            loss = self.inner(input_ids=batch, labels=batch).loss
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=3e-3)

    class Logger(lightning.loggers.logger.Logger):
        def __init__(self):
            self.logged = []

        name, version = "logger", 0

        def log_metrics(self, metrics, step=None):
            self.logged.append((step, metrics))

        def log_hyperparams(self, *_, **__):
            pass

    def run(*callbacks, model=None, steps=STEPS):
        logger = Logger()
        trainer = lightning.Trainer(
            max_steps=steps,
            accelerator="cpu",
            accumulate_grad_batches=2,
            callbacks=list(callbacks),
            logger=logger,
            log_every_n_steps=2,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        module = Module(model or small.model())
        small.seed()
        data = torch.utils.data.DataLoader(small.sequences(), batch_size=4, shuffle=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice about workers
            trainer.fit(module, data)
        return small.ending(module, trainer.optimizers[0], []), logger.logged, trainer

    return run


def callback(path, **options):
    settings = MonitorOptions(**{"every": 2, "max_length": 32, "strict": True} | options)
    return ThalwegLightningCallback(small.TOKENIZER, out=path, prompts=small.TEXTS, options=settings)


def test_a_training_ends_bit_equal_and_loggers_get_the_numbers(fit, tmp_path):
    alone, logged, _ = fit()
    watched, with_monitor, _ = fit(callback(tmp_path / "run"))
    watched.assert_equals(alone)
    assert [one for one in with_monitor if "loss" in one[1]] == logged != []
    found = {step: metrics["thalweg/norm_ratio/max"] for step, metrics in with_monitor if "loss" not in metrics}
    assert list(found) == [0, 2, 4, 6]
    curves = open_run(tmp_path / "run").experiments("checkpoints")[-1].table("curves")
    reached = curves.filter(metric="max_norm_ratio").select("step", "value").collect()
    assert found == pytest.approx(dict(reached.iter_rows()))
    assert open_run(tmp_path / "run").status == "finished"


def test_an_alarm_may_stop_the_training(fit, tmp_path):
    _, _, trainer = fit(callback(tmp_path / "run", alarms=Alarms(massive_above=1e-3, stop=True)))
    assert trainer.global_step < STEPS


def test_another_training_is_refused_and_a_failed_one_is_called_so(fit, tmp_path):
    fit(callback(tmp_path / "run"), steps=1)
    with pytest.raises(RunError, match="holds the training of another model"):
        fit(callback(tmp_path / "run", strict=False), model=llama(num_hidden_layers=3).train())
    broken = small.model()
    broken.lm_head.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(callback(tmp_path / "other"), model=broken)
    assert open_run(tmp_path / "other").status == "failed"
