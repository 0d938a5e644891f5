"""Every state's prediction from one forward pass: the model's own loss at the end, a plain loop everywhere."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from polars.testing import assert_frame_equal

import thalweg
from families import tiny
from saved import VOCABULARY, llama, save
from thalweg.capture import _solved, subject_of
from thalweg.capture._proof import proof_tokens
from thalweg.errors import DataError, ProofError, UsageError
from thalweg.experiments._lens import measure as module
from thalweg.lenses import LogitLens, save_tuned
from thalweg.prompts import open_source
from thalweg.reference import byte_tokenizer

QUIET = thalweg.SurveyOptions(progress=False, shard_rows=3)
QUANTITIES = ("loss", "output_entropy", "agreement", "kl")
SUMS = [f"{name}_sum" for name in QUANTITIES]
TEXTS = [f"{row} bottles of water " * (1 + row % 3) for row in range(7)]


def write(path, texts=TEXTS):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(llama(max_position_embeddings=96), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "prompts.jsonl")


@pytest.fixture(scope="module")
def found(model, data, tmp_path_factory):
    return read(model, data, tmp_path_factory.mktemp("runs") / "run")


def read(model, data, out, *, options=QUIET, **asked):
    return thalweg.lens(model, data, out=out, options=options, **asked)


def by_loop(model, tokens):
    """The usual way: every layer's hidden state through norm and head, softmax and all, in float64."""
    with torch.no_grad():
        output = model(input_ids=torch.tensor([tokens]), output_hidden_states=True, use_cache=False)
        last = output.logits[0].double().log_softmax(-1)[:-1]
        states = [state[0] for state in output.hidden_states]
        norm, head = model.model.norm, model.lm_head
        logits = [head(norm(state)) for state in states[:-1]] + [output.logits[0]]
    rows, targets = [], torch.tensor(tokens[1:])
    for one in logits:
        own = one.double().log_softmax(-1)[:-1]
        loss = -own[range(len(targets)), targets].sum()
        entropy = -(own.exp() * own).sum()
        agreed = (own.argmax(-1) == last.argmax(-1)).sum()
        rows.append([float(one) for one in (loss, entropy, agreed, (last.exp() * (last - own)).sum())])
    return rows


def test_sums_are_those_of_a_plain_loop_over_layers(found, model):
    loaded = tf.AutoModelForCausalLM.from_pretrained(model)
    table = found.table("lens").collect()
    assert table["scored"].sum() == 3 * sum(len(byte_tokenizer()(text)["input_ids"]) - 1 for text in TEXTS)
    for row, text in enumerate(TEXTS):
        tokens = byte_tokenizer()(text)["input_ids"]
        own = table.filter(prompt=row).sort("state").select(SUMS).to_numpy()
        # sums of up to 60 float32 numbers
        np.testing.assert_allclose(own, by_loop(loaded, tokens), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "gemma2", "cohere", "granite"])
def test_the_last_state_is_the_model_in_every_family(family, tmp_path):
    model = tiny(family)
    model.resize_token_embeddings(VOCABULARY, mean_resizing=False)
    name = save(model.eval(), tmp_path / family)
    curves = read(name, write(tmp_path / "p.jsonl", TEXTS[:2]), tmp_path / "run").table("curves").collect()
    loaded = tf.AutoModelForCausalLM.from_pretrained(name)
    losses, count = 0.0, 0
    for text in TEXTS[:2]:
        tokens = torch.tensor([byte_tokenizer()(text)["input_ids"]])
        with torch.no_grad():
            losses += float(loaded(input_ids=tokens, labels=tokens).loss) * (tokens.shape[1] - 1)
        count += tokens.shape[1] - 1
    last = curves.filter(state=curves["state"].max(), metric="loss").row(0, named=True)
    assert last["value"] == pytest.approx(losses / count, rel=1e-5)
    assert last["scored"] == count
    ends = curves.filter(state=curves["state"].max())
    assert ends.filter(metric="kl")["value"].item() == 0.0
    assert ends.filter(metric="agreement")["value"].item() == 1.0
    assert curves.filter(state=1, metric="kl")["value"].item() > 1e-7  # granite divides its small logits by 8


def test_batches_and_pieces_of_logits_change_nothing(found, model, data, tmp_path, monkeypatch):
    wanted = found.table("lens").collect()
    one = read(model, data, tmp_path / "one", options=replace(QUIET, batch_size=1)).table("lens").collect()
    monkeypatch.setattr(_solved, "LOGITS", 5 * VOCABULARY)
    pieces = read(model, data, tmp_path / "pieces").table("lens").collect()
    for other in (one, pieces):
        # <= 1e-6 relative to the largest sum: float32 matrix products of another shape
        assert_frame_equal(other, wanted, check_exact=False, rel_tol=1e-6, abs_tol=2e-5)


def test_logits_are_never_held_of_more_than_one_piece(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(_solved, "LOGITS", 4 * VOCABULARY)
    seen, plain = [], LogitLens.logits

    def counted(self, state, rows):
        seen.append(len(rows))
        return plain(self, state, rows)

    monkeypatch.setattr(LogitLens, "logits", counted)
    read(model, data, tmp_path / "run")
    assert max(seen) == 4


def test_the_states_of_a_batch_stay_small_unless_its_tokens_are_asked_for(monkeypatch):
    subject = subject_of(tiny("llama"))
    width = subject.model.config.hidden_size
    token = 4 * width * (len(subject.parts.blocks) + 1)
    monkeypatch.setattr(module, "STATES", 7 * token + 1)
    assert module.state_batches(subject, QUIET).token_budget == 7
    assert module.state_batches(subject, replace(QUIET, batch_tokens=100)).token_budget == 100


def test_one_forward_a_batch_serves_all_states(model, data, tmp_path, monkeypatch):
    calls, plain = [], module.flat_states

    def counted(subject, batch, **options):
        subject.parts.body.register_forward_hook(lambda *_: calls.append(len(batch)), always_call=True)
        try:
            return plain(subject, batch, **options)
        finally:
            subject.parts.body._forward_hooks.clear()

    monkeypatch.setattr(module, "flat_states", counted)
    read(model, data, tmp_path / "run", options=replace(QUIET, batch_size=1))
    assert calls == [1] * len(TEXTS)


def test_blocks_are_scored_as_one_text(model, tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"line {row} of the text\n" for row in range(20)))
    experiment = read(model, tmp_path / "a.txt", tmp_path / "run", block_length=32)
    tokens = byte_tokenizer()((tmp_path / "a.txt").read_text(), add_special_tokens=False)["input_ids"]
    loaded, total, count = tf.AutoModelForCausalLM.from_pretrained(model), np.zeros((3, 4)), 0
    front = byte_tokenizer()("a")["input_ids"][:-1]
    own = 32 - len(front)
    for first in range(0, len(tokens), own):
        block = [*front, *tokens[first : first + own]]
        if len(block) > 1:
            total += by_loop(loaded, block)
            count += len(block) - 1
    curves = experiment.table("curves").collect()
    for place, name in enumerate(QUANTITIES):
        values = curves.filter(metric=name).sort("state")["value"].to_numpy()
        np.testing.assert_allclose(values, total[:, place] / count, rtol=1e-5, atol=1e-6)
    assert curves["scored"].unique().to_list() == [count]
    perplexity = curves.filter(metric="perplexity").sort("state")["value"].to_numpy()
    np.testing.assert_allclose(perplexity, np.exp(total[:, 0] / count), rtol=1e-4)


def test_a_run_that_is_extended_equals_one_that_was_not(found, model, data, tmp_path):
    read(model, data, tmp_path / "run", options=replace(QUIET, limit=4))
    again = read(model, data, tmp_path / "run")
    for name in ("lens", "curves"):
        assert_frame_equal(again.table(name).collect(), found.table(name).collect(), rel_tol=1e-6, abs_tol=2e-5)


def test_nothing_is_loaded_where_nothing_is_missing(found, model, data, monkeypatch):
    monkeypatch.setattr(module, "loaded", None)
    again = read(model, data, found.run)
    assert_frame_equal(again.table("curves").collect(), found.table("curves").collect())


def test_a_prompt_with_a_nan_gives_nan_is_counted_and_left_out(found, tmp_path):
    broken = llama(max_position_embeddings=96)
    [token] = byte_tokenizer()("#", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        broken.model.embed_tokens.weight[token] = torch.nan
    assert token not in proof_tokens(subject_of(broken))
    name, data = save(broken, tmp_path / "broken"), write(tmp_path / "p.jsonl", [*TEXTS, "a # b"])
    experiment = read(name, data, tmp_path / "run")
    table = experiment.table("lens").collect()
    assert table.filter(prompt=len(TEXTS)).select(SUMS).to_numpy().size == 3 * 4
    assert np.isnan(table.filter(prompt=len(TEXTS)).select(SUMS).to_numpy()).all()
    assert experiment.header.coverage[0].nonfinite_states == 3
    curves = experiment.table("curves").collect()
    assert curves["n"].unique().to_list() == [len(TEXTS)]
    assert_frame_equal(
        curves.select("state", "metric", "value"), found.table("curves").select("state", "metric", "value").collect()
    )


def test_without_the_final_norm_agreement_and_kl_are_to_the_model(model, data, tmp_path):
    curves = read(model, data, tmp_path / "run", final_norm=False).table("curves").collect()
    last = curves.filter(state=2)
    assert last.filter(metric="kl")["value"].item() > 1e-3


def test_a_tuned_lens_of_zeros_is_the_logit_lens_beside_it(found, model, data, tmp_path):
    names = {"weight": (32, 32), "bias": (32,)}
    zeros = {f"{state}.{name}": torch.zeros(shape) for state in range(2) for name, shape in names.items()}
    config = {"base_model_name_or_path": "x/tiny", "d_model": 32, "num_hidden_layers": 2}
    save_tuned(tmp_path / "lens", config, zeros)
    experiment = read(model, data, found.run, tuned=tmp_path / "lens")
    assert experiment.header.settings["lens"] == "tuned"
    assert experiment.header.key != found.header.key
    assert_frame_equal(experiment.table("curves").collect(), found.table("curves").collect(), abs_tol=1e-6)


def test_rows_of_one_token_score_nothing(model, tmp_path):
    data = write(tmp_path / "p.jsonl", ["a", *TEXTS[:2]])
    experiment = read(model, data, tmp_path / "run", options=replace(QUIET, bos="never"))
    table = experiment.table("lens").collect()
    assert table.filter(prompt=0)["scored"].unique().to_list() == [0]
    assert experiment.table("curves").collect()["value"].is_finite().all()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"block_length": 16}, "--blocks"),
        ({"blocks": True, "block_length": 500}, "context of 96"),
        ({"blocks": True, "block_length": 1}, "--block-length"),
        ({"tuned": "somewhere", "final_norm": False}, "--no-final-norm"),
        ({"tuned": "somewhere"}, "--tuned somewhere"),
    ],
)
def test_what_cannot_be_asked_is_refused(model, data, tmp_path, asked, said):
    with pytest.raises(UsageError, match=said):
        read(model, data, tmp_path / "run", **asked)


@pytest.mark.parametrize("blocks", [True, False])
def test_data_whose_texts_are_all_empty_is_refused(model, tmp_path, blocks):
    data = write(tmp_path / "p.jsonl", ["", "  "])
    with pytest.raises(DataError, match="at least one"):
        read(model, data, tmp_path / "run", blocks=blocks)


def test_a_model_without_unembedding_is_refused_by_the_lens_alone(model, data, tmp_path, monkeypatch):
    def unproved(*_):
        raise ProofError("LlamaForCausalLM cannot be measured (unembedding): gap 1e+00")

    monkeypatch.setattr("thalweg.lenses._logit.unembedding_of", unproved)
    with pytest.raises(ProofError, match="unembedding"):
        read(model, data, tmp_path / "lens")
    assert thalweg.survey(model, data, out=tmp_path / "survey", options=QUIET).layers.collect().height


@pytest.mark.skipif("THALWEG_TEST_DATA" not in os.environ, reason="needs THALWEG_TEST_DATA/models/stories260k")
def test_the_last_state_of_a_real_model_is_its_loss_on_wikitext(tmp_path):
    folder = Path(os.environ["THALWEG_TEST_DATA"])
    name, data = folder / "models" / "stories260k", folder / "data" / "wikitext2_test.txt"
    options = replace(QUIET, limit=4)
    curves = read(name, data, tmp_path / "run", block_length=512, options=options).table("curves").collect()
    model, tokenizer = tf.AutoModelForCausalLM.from_pretrained(name), tf.AutoTokenizer.from_pretrained(name)
    text = "".join(row.text for row in open_source(str(data), whole_file=True).rows(0, 1))[:20000]
    tokens = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    losses = []
    for block in range(4):
        own = torch.tensor([[tokenizer.bos_token_id, *tokens[block * 511 : (block + 1) * 511]]])
        with torch.no_grad():
            losses.append(float(model(input_ids=own, labels=own).loss))
    loss = curves.filter(metric="loss").sort("state")["value"].to_list()
    assert loss[-1] == pytest.approx(np.mean(losses), abs=1e-5)
    assert loss == sorted(loss, reverse=True)
