"""Every state is evaluated by mteb on embeddings that one forward pass a text gave; equal to the naive way by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from polars.testing import assert_frame_equal
from scipy.stats import spearmanr
from sklearn.metrics.pairwise import paired_cosine_distances
from tests import local_mteb
from transformers import AutoModelForCausalLM

import thalweg
from saved import llama, save
from thalweg.capture import identify_model
from thalweg.errors import DataError, UsageError
from thalweg.experiments import TextFeatures
from thalweg.experiments import _pass as passing
from thalweg.experiments._mteb import measure as module
from thalweg.experiments._mteb.harness import States, state_scores
from thalweg.reference import byte_tokenizer
from thalweg.store import open_run

QUIET = thalweg.SurveyOptions(progress=False)
STATES = 3
TABLES = ("scores", "tasks", "means")


def tasks_in(directory):
    return [
        local_mteb.similarity_task(directory),
        local_mteb.classification_task(directory),
        local_mteb.clustering_task(directory),
    ]


def texts_of(directory):
    """Every text that the tasks read, from their files."""
    found = set()
    for file in directory.rglob("*.jsonl"):
        for row in map(json.loads, file.read_text().splitlines()):
            for field in ("text", "sentence1", "sentence2"):
                found |= {row[field]} if field in row else set()
            found |= set(row.get("sentences", ()))
    return found


class Passes:
    """Counts how often each prompt goes through the model, whoever asks for it."""

    def __init__(self, monkeypatch):
        self.read = []
        inner = passing.token_batch

        def counted(subject, batch):
            self.read += [prompt.sha256 for prompt in batch]
            return inner(subject, batch)

        monkeypatch.setattr(passing, "token_batch", counted)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(llama(), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def evaluated(model, tmp_path_factory):
    """Three tasks at every state: the experiment, the texts of the tasks, and every prompt that was read."""
    directory = tmp_path_factory.mktemp("mteb")
    with pytest.MonkeyPatch.context() as patch:
        passes = Passes(patch)
        found = thalweg.mteb(model, tasks_in(directory), out=directory / "run", options=QUIET)
    return found, directory, passes.read


def naive(model, texts):
    """Mean over the tokens of Hugging Face's own hidden states, one text at a time: states x rows x width."""
    network = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager").eval()
    blocks, tokenizer, rows = network.model.layers, byte_tokenizer(), []
    for text in texts:
        kept, last = [], []
        hook = blocks[-1].register_forward_hook(lambda _, __, out, last=last: last.append(out))
        with torch.no_grad():
            tokens = torch.tensor([tokenizer(text)["input_ids"]])
            kept = [*network(tokens, output_hidden_states=True).hidden_states[:-1]]
        hook.remove()
        (out,) = last
        kept.append(out[0] if isinstance(out, tuple) else out)  # before the final norm
        rows.append([state[0].double().mean(0).numpy() for state in kept])
    return np.array(rows).transpose(1, 0, 2)


def test_each_text_is_read_once_for_all_states_and_tasks(evaluated):
    found, directory, read = evaluated
    assert found.header.status == "finished"
    assert len(read) == len(set(read)) == len(texts_of(directory))
    scores = found.table("scores").collect()
    assert scores.height == 3 * STATES
    assert scores["score"].is_finite().all()
    assert scores["task"].unique(maintain_order=True).to_list() == [
        "STS12",
        "Banking77Classification",
        "TwentyNewsgroupsClustering",
    ]


def test_scores_are_those_of_naive_embeddings_scored_by_hand(model, evaluated):
    found, directory, _ = evaluated
    rows = [json.loads(line) for line in (directory / "sts" / "test.jsonl").read_text().splitlines()]
    one, other = (naive(model, [row[name] for row in rows]) for name in ("sentence1", "sentence2"))
    wanted = [
        spearmanr([row["score"] for row in rows], 1 - paired_cosine_distances(one[state], other[state])).statistic
        for state in range(STATES)
    ]
    scores = found.table("scores").filter(task="STS12").sort("state").collect()["score"]
    np.testing.assert_allclose(scores, wanted, atol=1e-6)  # mteb keeps six digits


def test_scores_are_what_mteb_says_of_embeddings_that_equal_the_naive_ones(model, evaluated, tmp_path):
    found, directory, _ = evaluated
    features = TextFeatures(identify_model(model), directory / "run", options=QUIET)

    def embed(texts, state):
        rows = features(texts).state(state)
        np.testing.assert_allclose(rows, naive(model, texts)[state], rtol=1e-4, atol=1e-4)  # float32, other batches
        return rows

    for make in (local_mteb.classification_task, local_mteb.clustering_task):
        wanted = state_scores(make(tmp_path), States("plain", "plain", STATES, embed), tmp_path / "cache")
        scores = found.table("scores").filter(task=wanted[0].task).collect()["score"].to_list()
        assert scores == [one.score for one in wanted]


def test_means_are_over_tasks(evaluated):
    found, _, _ = evaluated
    scores = found.table("tasks").collect().pivot("state", index="task", values="score").drop("task").to_numpy()
    means = found.table("means").filter(type="all").collect()
    np.testing.assert_allclose(means["mean"], scores.mean(0), rtol=1e-12)
    assert means["best"].arg_true().to_list() == [int(scores.mean(0).argmax())]
    assert means["n"].to_list() == [3] * STATES


def test_the_same_again_reads_nothing_and_gives_the_same(model, evaluated, monkeypatch):
    found, directory, _ = evaluated
    before = {name: found.table(name).collect() for name in TABLES}
    monkeypatch.setattr("thalweg.experiments._mteb.measure.loaded", lambda *_: pytest.fail("the model is loaded"))
    again = thalweg.mteb(model, tasks_in(directory), out=directory / "run", options=QUIET)
    for name in TABLES:
        assert_frame_equal(again.table(name).collect(), before[name])


class Stopped(Exception):
    pass


def test_a_stopped_evaluation_goes_on_where_it_was(model, evaluated, tmp_path, monkeypatch):
    found, _, _ = evaluated
    inner, states = module.state_scores, []

    def stopping(task, model_states, cache, *, done):
        def counted():
            states.append(task.metadata.name)
            done()
            if len(states) == STATES + 2:
                raise Stopped

        return inner(task, model_states, cache, done=counted)

    passes = Passes(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(module, "state_scores", stopping)
        with pytest.raises(Stopped):
            thalweg.mteb(model, tasks_in(tmp_path), out=tmp_path / "run", options=QUIET)
    (stopped,) = open_run(tmp_path / "run").experiments("mteb")
    assert stopped.header.status == "failed"
    assert stopped.table("tasks").collect()["task"].unique().to_list() == ["STS12"]
    assert set(states) == {"STS12", "Banking77Classification"}
    again = thalweg.mteb(model, tasks_in(tmp_path), out=tmp_path / "run", options=QUIET)
    assert len(passes.read) == len(set(passes.read))
    for name in TABLES:
        assert_frame_equal(again.table(name).collect(), found.table(name).collect(), abs_tol=1e-9)


def test_embeddings_can_be_forgotten_and_scores_stay_the_same(model, evaluated, tmp_path):
    found, _, _ = evaluated
    own = thalweg.mteb(model, tasks_in(tmp_path), keep_features=False, out=tmp_path / "run", options=QUIET)
    assert_frame_equal(own.table("means").collect(), found.table("means").collect(), abs_tol=1e-9)
    assert list((tmp_path / "run").rglob("*.npy")) == []


def test_the_last_token_is_another_embedding_in_the_same_run(model, evaluated):
    found, directory, _ = evaluated
    task = [local_mteb.similarity_task(directory)]
    last = thalweg.mteb(model, task, pooling="last", out=directory / "run", options=QUIET)
    assert last.header.key != found.header.key
    mean = found.table("scores").filter(task="STS12").collect()["score"]
    assert last.table("scores").collect()["score"].to_list() != pytest.approx(mean.to_list(), abs=1e-3)


def test_a_text_without_tokens_is_embedded_as_zeros_and_the_others_as_they_are(model, tmp_path):
    rows = [*local_mteb.paired(12, 1), {"sentence1": "", "sentence2": "a river", "score": 0.0}]
    task = local_mteb.similarity_task(tmp_path, rows)
    options = replace(QUIET, bos="never")
    found = thalweg.mteb(model, [task], out=tmp_path / "run", options=options)
    assert found.table("scores").collect()["score"].is_finite().all()


def test_texts_that_are_all_empty_are_one_line(model, tmp_path):
    rows = [{"sentence1": "", "sentence2": "", "score": float(row)} for row in range(4)]
    with pytest.raises(DataError, match="expected at least one text with tokens; got none"):
        thalweg.mteb(model, [local_mteb.similarity_task(tmp_path, rows)], out=tmp_path / "run", options=QUIET)


def test_an_unknown_task_or_pooling_leaves_no_run(model, tmp_path):
    with pytest.raises(UsageError, match="Nearest: STS12"):
        thalweg.mteb(model, "sts12", out=tmp_path / "run", options=QUIET)
    with pytest.raises(UsageError, match="--pooling must be mean or last; got max"):
        thalweg.mteb(model, "STS12", pooling="max", out=tmp_path / "run", options=QUIET)
    assert not (tmp_path / "run").exists()


def test_another_model_needs_a_run_of_its_own(evaluated):
    _, directory, _ = evaluated
    other = save(llama(num_hidden_layers=1), directory / "other")
    task = [local_mteb.similarity_task(directory)]
    with pytest.raises(UsageError, match="belongs to another run"):
        thalweg.mteb(other, task, out=directory / "run", options=QUIET)
