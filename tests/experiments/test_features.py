"""A text's features are the pooled hidden states of its own forward pass, and there is one such pass a text."""

import numpy as np
import pytest
import torch

from saved import llama, save
from thalweg.capture import identify_model, load_model
from thalweg.errors import DataError, NotMeasured, UsageError
from thalweg.experiments import SurveyOptions, TextFeatures, features
from thalweg.experiments import _features as module
from thalweg.experiments import _pass as passing
from thalweg.options import LoadOptions

QUIET = SurveyOptions(progress=False)
TEXTS = [f"{row} bottles of water " * (1 + row % 3) for row in range(11)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return identify_model(save(llama(), tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def passes(monkeypatch):
    """Rows of tokens that went through the model, one a text."""
    seen, run = [], passing.token_batch

    def counted(subject, batch):
        seen.extend(prompt.text for prompt in batch)
        return run(subject, batch)

    monkeypatch.setattr(passing, "token_batch", counted)
    return seen


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_features_are_hugging_faces_hidden_states_pooled(model, tmp_path, pooling):
    found = features(model, TEXTS, tmp_path, pooling=pooling, options=QUIET)
    assert found.shape == (11, 3, 32)
    loaded = load_model(model)
    for text, own in zip(TEXTS, np.asarray(found), strict=True):
        tokens = torch.tensor([model.tokenizer(text)["input_ids"][:64]])
        with torch.no_grad():
            theirs = loaded.model(input_ids=tokens, output_hidden_states=True).hidden_states
        for state, expected in enumerate(theirs[:-1]):  # the last of theirs comes after the final norm
            row = expected[0].mean(0) if pooling == "mean" else expected[0, -1]
            np.testing.assert_allclose(own[state], row, rtol=1e-4, atol=1e-5)  # float32, batched against alone


def test_the_last_state_is_taken_before_the_final_norm(model, tmp_path):
    found = features(model, TEXTS[:2], tmp_path, pooling="last", options=QUIET)
    loaded = load_model(model)
    tokens = torch.tensor([model.tokenizer(TEXTS[0])["input_ids"][:64]])
    with torch.no_grad():
        normed = loaded.model(input_ids=tokens).last_hidden_state[0, -1]
        own = loaded.model.norm(torch.from_numpy(found[0][-1]))
    torch.testing.assert_close(own, normed, rtol=1e-4, atol=1e-5)


def test_one_pass_a_text_whatever_is_asked_for_later(model, tmp_path, passes):
    first = TextFeatures(model, tmp_path, options=QUIET)
    once = np.asarray(first([*TEXTS[:6], TEXTS[0]]))
    assert sorted(passes) == sorted(TEXTS[:6])
    assert np.array_equal(once[0], once[6])
    again = TextFeatures(model, tmp_path, options=QUIET, subject=lambda: pytest.fail("loaded"))
    assert np.array_equal(np.asarray(again(TEXTS[:6][::-1])), once[:6][::-1])
    more = TextFeatures(model, tmp_path, options=QUIET)
    more(TEXTS)
    assert sorted(passes) == sorted(TEXTS)
    assert (first.measured, again.measured, more.measured) == (6, 0, 5)


@pytest.mark.parametrize(
    "changes", [{"pooling": "last"}, {"max_length": 7}, {"bos": "always"}], ids=lambda changes: next(iter(changes))
)
def test_what_changes_a_number_is_measured_anew(model, tmp_path, passes, changes):
    features(model, TEXTS[:2], tmp_path, options=QUIET)
    pooling = changes.pop("pooling", "mean")
    features(model, TEXTS[:2], tmp_path, pooling=pooling, options=SurveyOptions(progress=False, **changes))
    assert sorted(passes) == sorted([*TEXTS[:2]] * 2)


def test_batches_change_no_number(model, tmp_path):
    found = [
        np.asarray(features(model, TEXTS, tmp_path / str(size), options=SurveyOptions(progress=False, batch_size=size)))
        for size in (1, 4, None)
    ]
    for one in found[1:]:
        np.testing.assert_allclose(one, found[0], rtol=1e-4, atol=1e-5)


def test_texts_without_tokens_are_gaps_with_a_count(model, tmp_path):
    measured = TextFeatures(model, tmp_path, options=QUIET)
    found = measured(["", TEXTS[0], " ", "\ud800"])
    assert found.present.tolist() == [False, True, False, False]
    assert np.isnan(found[0]).all()
    assert measured.skipped == {"empty text": 2, "text is not valid Unicode": 1}
    with pytest.raises(DataError, match=r"at least one text with tokens; got none \(empty text: 1\)"):
        TextFeatures(model, tmp_path / "other", options=QUIET)([""])


def test_one_that_is_stopped_goes_on_where_it_stopped(model, tmp_path, passes, monkeypatch):
    monkeypatch.setattr(module, "PART_ROWS", 3)
    write, written = TextFeatures._write, []

    def stopping(self, shard, results):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard)
        write(self, shard, results)

    monkeypatch.setattr(TextFeatures, "_write", stopping)
    with pytest.raises(KeyboardInterrupt):
        features(model, TEXTS, tmp_path, options=QUIET)
    monkeypatch.setattr(TextFeatures, "_write", write)
    lost = set(passes[6:])
    found = features(model, TEXTS, tmp_path, options=QUIET)
    assert len(passes) == 11 + len(lost)  # six whole, and the part in hand twice
    other = features(model, TEXTS, tmp_path / "undisturbed", options=QUIET)
    np.testing.assert_allclose(np.asarray(found), np.asarray(other), rtol=1e-4, atol=1e-5)


def test_a_text_that_does_not_fit_is_named_and_measured_later_and_the_others_stay(model, tmp_path, monkeypatch):
    run, longest = TextFeatures._pooled, max(TEXTS, key=len)

    def pooled(self, batch):
        if any(prompt.text == longest for prompt in batch):
            raise torch.OutOfMemoryError("out of memory")
        return run(self, batch)

    monkeypatch.setattr(TextFeatures, "_pooled", pooled)
    measured = TextFeatures(model, tmp_path, options=QUIET)
    with pytest.raises(NotMeasured, match=r"out of memory: 1 of \d+ prompts were not measured"):
        measured(TEXTS)
    assert measured.skipped == {"out of memory": 1}
    monkeypatch.undo()
    later = TextFeatures(model, tmp_path, options=QUIET)
    assert later(TEXTS).present.all()
    assert later.measured == 1


def test_a_float64_model_keeps_its_precision(tmp_path):
    path = save(llama(), tmp_path / "model")
    model = identify_model(path, LoadOptions(dtype="float64"))
    assert features(model, TEXTS[:1], tmp_path / "run", options=QUIET).dtype == np.float64


def test_an_unknown_pooling_is_refused(model, tmp_path):
    with pytest.raises(UsageError, match="--pooling must be mean or last; got first"):
        TextFeatures(model, tmp_path, pooling="first")
