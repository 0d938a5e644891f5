"""A small trained model on real problems: it has no massive activation and no sink, and the report says so."""

import os
import re
from pathlib import Path

import pytest

from thalweg.store import open_run

FOLDER = os.environ.get("THALWEG_TEST_DATA")
pytestmark = pytest.mark.skipif(not FOLDER, reason="THALWEG_TEST_DATA names no folder with a real model and real data")


def test_stories260k_has_no_massive_activation_and_no_sink(thalweg, tmp_path, monkeypatch):
    model, data = Path(FOLDER) / "models" / "stories260k", Path(FOLDER) / "data" / "gsm8k_train.jsonl"
    command = ["survey", model, "--data", data, "--limit", 40, "--out", tmp_path / "s"]
    first = thalweg(*command)
    assert (first.code, first.err) == (0, "")
    run = open_run(tmp_path / "s")
    assert run.header.data[0].template == "{question}\n{answer}"
    assert run.prompts.collect().height == 40
    assert run.bound_violations == 0
    assert not run.phases.collect()["has_massive_activations"].any()
    assert run.massive.collect().is_empty()
    assert thalweg("report", tmp_path / "s").code == 0
    page = (tmp_path / "s" / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", " ", page.partition("<script")[0] + page.partition("<body")[2])
    assert "No massive activation" in text
    assert "No sink" in text

    monkeypatch.setattr("thalweg.experiments._over_prompts.load_model", lambda *_: pytest.fail("loaded again"))
    again = thalweg(*command)
    assert again == first
    assert open_run(tmp_path / "s").status == "finished"


def test_stories260k_is_proved(thalweg):
    outcome = thalweg("verify", Path(FOLDER) / "models" / "stories260k")
    assert outcome.code == 0
    assert sum(" yes " in line for line in outcome.out.splitlines()) == 10
