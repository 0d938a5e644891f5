"""Every state chooses from one pass, and the last one as lm-eval has the model choose."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import transformers
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from polars.testing import assert_frame_equal
from tests.local_mcq import ARC, Tasks

import families
import thalweg
from saved import llama, save
from thalweg.capture import identify_model, load_model, subject_of
from thalweg.capture._proof import proof_tokens
from thalweg.errors import NotMeasured, OverflowInFloat16, UsageError
from thalweg.experiments import _over_prompts as over_prompts
from thalweg.experiments import mcq
from thalweg.experiments._mcq import measure as answering
from thalweg.experiments._mcq.measure import Request
from thalweg.lenses import LensChoice, LogitLens
from thalweg.reference import byte_tokenizer

QUIET = thalweg.SurveyOptions(progress=False)
FOLDER = os.environ.get("THALWEG_TEST_DATA")
# float32 log-likelihoods of tens of nats; another batch rounds the last bits of the states
TOLERANCE = {"rtol": 1e-5, "atol": 1e-4}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(llama(num_hidden_layers=3, max_position_embeddings=256), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    own = Tasks(tmp_path_factory.mktemp("tasks"))
    own.choice()
    own.letters()
    return own


def asked(model, tasks, out, names=("small_choice", "letters"), *, options=QUIET, **more):
    return mcq(model, names, include_path=tasks.path, out=out, options=options, **more)


def scores(experiment):
    return experiment.table("scores").collect()


def lm_eval(model, tasks, names, **options):
    """What lm-eval itself says of a model: scores, and by request its tokens and its answer."""
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model).eval()
    own = HFLM(pretrained=loaded, tokenizer=transformers.AutoTokenizer.from_pretrained(model), **options)
    seen, run = [], own._loglikelihood_tokens

    def remembered(requests, **given):
        answers = run(requests, **given)
        seen.extend(zip(requests, answers, strict=True))
        return answers

    own._loglikelihood_tokens = remembered
    return own, seen, TaskManager(include_path=str(tasks.path), include_defaults=False).load(list(names))


def compared(experiment, results, state):
    """Values and standard errors of a state are lm-eval's own, to the last bit."""
    last = scores(experiment).filter(state=state).to_dicts()
    assert last
    for row in last:
        theirs = results["results"][row["task"]]
        assert (row["value"], row["stderr"], row["n"]) == (
            theirs[f"{row['metric']},none"],
            theirs[f"{row['metric']}_stderr,none"],
            theirs["sample_len"],
        )


@pytest.fixture(scope="module")
def found(model, tasks, tmp_path_factory):
    return asked(model, tasks, tmp_path_factory.mktemp("runs") / "run")


def test_the_last_state_chooses_as_lm_eval_has_the_model_choose(found, model, tasks):
    own, _, loaded = lm_eval(model, tasks, ("small_choice", "letters"), batch_size=3)
    compared(found, evaluate(own, loaded, log_samples=False), 3)
    assert scores(found)["state"].unique().sort().to_list() == [0, 1, 2, 3]
    assert scores(found).filter(metric="acc")["value"].n_unique() > 2  # the states do differ


@pytest.mark.skipif(FOLDER is None, reason="needs THALWEG_TEST_DATA: data/arc_easy_test.jsonl, models/stories260k")
def test_on_arc_easy_the_last_state_of_a_trained_model_has_lm_evals_own_scores(tmp_path):
    own = Tasks(tmp_path / "tasks")
    name = own.write("my_arc", {"test": Path(FOLDER) / "data" / "arc_easy_test.jsonl"}, **ARC)
    model = str(Path(FOLDER) / "models" / "stories260k")
    scored = asked(model, own, tmp_path / "run", [name], limit=50)
    other, _, loaded = lm_eval(model, own, [name], batch_size=8)
    compared(scored, evaluate(other, loaded, limit=50, log_samples=False), 5)
    assert scores(scored).filter(metric="acc", state=5)["value"].to_list() == [0.22]


def naive(model, requests):
    """One forward pass a request and state: the states before the last through norm and head, the last is the model."""
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model).eval()
    rows = []
    for (_, context, continuation), _ in requests:
        tokens = torch.tensor([context + continuation])
        with torch.no_grad():
            output = loaded(tokens, output_hidden_states=True)
            logits = [loaded.lm_head(loaded.model.norm(state)) for state in output.hidden_states[:-1]]
        values = []
        for state in (*logits, output.logits):
            likelihoods = torch.log_softmax(state[0].double(), -1)[len(context) - 1 : -1]
            own = likelihoods[torch.arange(len(continuation)), torch.tensor(continuation)]
            values.append((float(own.sum()), bool((likelihoods.argmax(-1) == torch.tensor(continuation)).all())))
        rows.append(values)
    return np.array(rows)


@dataclass(frozen=True)
class Chosen(LensChoice):
    """The logit lens, made by a function."""

    lens: Callable = LogitLens

    def on(self, subject, _):
        return self.lens(subject)


def answered(model, out, requests, *, options=QUIET, lens=LogitLens, load=None):
    """Log-likelihoods of requests, and who gave them."""
    identified = identify_model(model, options.loading)
    subject = None if load is None else lambda: load(identified)
    own = answering.LogLikelihoods(identified, out, Chosen(lens=lens), options, subject)
    return own(requests), own


def request_of(context, continuation):
    return Request(tuple((context + continuation)[:-1]), tuple(continuation))


@pytest.fixture(scope="module")
def requests(model, tasks):
    """Requests as lm-eval's own model gets them, with its answers."""
    own, seen, loaded = lm_eval(model, tasks, ("small_choice", "letters"), batch_size=4)
    evaluate(own, loaded, log_samples=False)
    return list({repr(one[0][1:]): one for one in seen}.values())


def test_every_state_equals_a_loop_over_requests_and_states(model, requests, tmp_path):
    chosen = requests[::5]
    values, own = answered(model, tmp_path, [request_of(*one[1:]) for one, _ in chosen])
    expected = naive(model, chosen)
    assert values.shape == (len(chosen), 4, 2)
    np.testing.assert_allclose(values[..., 0], expected[..., 0], **TOLERANCE)
    np.testing.assert_array_equal(values[..., 1], expected[..., 1])
    np.testing.assert_allclose(values[:, 3, 0], [answer for _, (answer, _) in chosen], **TOLERANCE)
    assert own.passes == len({(tuple(c), tuple(k[:-1])) for (_, c, k), _ in chosen})


def test_requests_that_cut_one_input_at_different_places_each_get_their_own_rows(model, tmp_path):
    text = list(range(97, 109))
    cuts = [([*text[:at]], [*text[at:]]) for at in (3, 11, 7)]
    values, own = answered(model, tmp_path, [request_of(*one) for one in cuts])
    assert own.passes == 1
    expected = naive(model, [((None, *one), None) for one in cuts])
    np.testing.assert_allclose(values[..., 0], expected[..., 0], **TOLERANCE)


def test_each_input_is_read_once_and_never_again(model, requests, tmp_path, monkeypatch):
    every = [request_of(*one[1:]) for one, _ in requests]
    first, own = answered(model, tmp_path, every)
    assert own.passes == len({request.tokens for request in every}) < len(every)
    monkeypatch.setattr(over_prompts, "load_model", lambda *_: pytest.fail("loaded again"))
    again, own = answered(model, tmp_path, every[::-1])
    assert own.passes == 0
    np.testing.assert_array_equal(again[::-1], first)


def test_batches_and_order_change_nothing(model, requests, tmp_path):
    every = [request_of(*one[1:]) for one, _ in requests]
    values, _ = answered(model, tmp_path / "a", every)
    for number, changed in enumerate((replace(QUIET, batch_size=1), replace(QUIET, batch_tokens=90))):
        order = np.random.default_rng(number).permutation(len(every))
        other, _ = answered(model, tmp_path / str(number), [every[place] for place in order], options=changed)
        np.testing.assert_allclose(other, values[order], **TOLERANCE)
    assert np.ptp(values[..., 0]) > 10


def test_batch_size_changes_no_score(found, model, tasks, tmp_path):
    single = asked(model, tasks, tmp_path / "run", options=replace(QUIET, batch_size=1))
    assert_frame_equal(scores(single), scores(found), check_exact=True)


def test_pieces_of_the_logits_change_nothing_and_bound_what_is_held(model, requests, tmp_path):
    every, seen = [request_of(*one[1:]) for one, _ in requests], []

    def lens(subject):
        own = LogitLens(subject)
        own.rows_at_once, read = 3, own.logits

        def watched(state, rows):
            seen.append(len(rows))
            return read(state, rows)

        own.logits = watched
        return own

    pieces, _ = answered(model, tmp_path / "pieces", every, lens=lens)
    assert set(seen) == {1, 2, 3}
    whole, _ = answered(model, tmp_path / "whole", every)
    np.testing.assert_allclose(pieces, whole, **TOLERANCE)
    # of the vocabulary only rows that predict a continuation are ever looked at
    assert sum(seen) / 4 < sum(len(request.tokens) for request in every) / 2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_log_likelihoods_are_float32_whatever_the_model_is(model, requests, tmp_path, dtype):
    chosen = requests[::7]
    own = replace(QUIET, dtype=dtype)
    values, _ = answered(model, tmp_path, [request_of(*one[1:]) for one, _ in chosen], options=own)
    assert values.dtype == np.float32
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
    for ((_, context, continuation), _), answer in zip(chosen, values, strict=True):
        with torch.no_grad():
            logits = loaded(torch.tensor([(context + continuation)[:-1]])).logits[0, -len(continuation) :]
        assert logits.dtype == getattr(torch, dtype)
        chosen = torch.arange(len(continuation)), torch.tensor(continuation)
        naive, half = (torch.log_softmax(own, -1)[chosen].sum() for own in (logits.double(), logits))
        assert answer[3, 0] == pytest.approx(float(naive), rel=2e-2 if dtype == "bfloat16" else 3e-3)
        if len(continuation) > 9:  # a softmax in the model's own dtype is coarser
            assert answer[3, 0] != float(half)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2", "cohere", "qwen3", "opt"])
def test_the_last_state_is_the_model_for_other_families(family, tmp_path):
    """Tied and untied heads, soft-capped logits, a logit scale, LayerNorm and RMSNorm."""
    made = families.tiny(family)
    made.resize_token_embeddings(258, mean_resizing=False)  # a row for every token of the tokenizer
    rng = np.random.default_rng(0)
    every = [
        Request(tuple(map(int, row[:-1])), tuple(map(int, row[-count:])))
        for count in (1, 4)
        for row in rng.integers(2, families.VOCABULARY, (4, 12))
    ]
    path = save(made, tmp_path / "model")
    values, _ = answered(path, tmp_path / "run", every, load=lambda one: subject_of(load_model(one)))
    for request, answer in zip(every, values, strict=True):
        with torch.no_grad():
            logits = made(torch.tensor([request.tokens])).logits[0, -len(request.targets) :]
        chosen = torch.arange(len(request.targets)), torch.tensor(request.targets)
        naive = torch.log_softmax(logits.double(), -1)[chosen].sum()
        assert answer[-1, 0] == pytest.approx(float(naive), rel=1e-4, abs=1e-4)


def test_one_stopped_half_way_goes_on_from_the_last_whole_part(found, model, tasks, tmp_path, monkeypatch):
    own, seen = answering.LogLikelihoods._answered, []

    def stopping(self, batch, given):
        seen.append(len(batch))
        if len(seen) > 8:
            raise KeyboardInterrupt
        return own(self, batch, given)

    small = replace(QUIET, batch_tokens=120)
    with monkeypatch.context() as patch:
        patch.setattr(answering, "BATCHES", 1)
        patch.setattr(answering.LogLikelihoods, "_answered", stopping)
        with pytest.raises(KeyboardInterrupt):
            asked(model, tasks, tmp_path / "run", options=small)
    (left,) = thalweg.open_run(tmp_path / "run").experiments("mcq")
    assert left.header.status == "interrupted"
    assert scores(left).height == 0
    parts = len(list((tmp_path / "run" / "features").rglob("*.npy")))
    assert parts >= 2
    counted = []
    monkeypatch.setattr(
        answering.LogLikelihoods, "_answered", lambda self, *given: counted.append(len(given[0])) or own(self, *given)
    )
    resumed = asked(model, tasks, tmp_path / "run", options=small)
    assert_frame_equal(scores(resumed), scores(found), rel_tol=1e-6)
    inputs = sum(counted) + sum(seen[:-1])
    assert sum(counted) > 0
    assert inputs - max(seen) <= len({tuple(one) for one in _inputs(model, tasks)})


def _inputs(model, tasks):
    own, seen, loaded = lm_eval(model, tasks, ("small_choice", "letters"), batch_size=4)
    evaluate(own, loaded, log_samples=False)
    return [context + continuation[:-1] for (_, context, continuation), _ in seen]


def test_more_questions_cost_only_those_and_settings_are_kept_apart(model, tasks, tmp_path, monkeypatch):
    counted, own = [], answering.LogLikelihoods._answered
    monkeypatch.setattr(
        answering.LogLikelihoods, "_answered", lambda self, *given: counted.append(len(given[0])) or own(self, *given)
    )
    asked(model, tasks, tmp_path / "run", ["letters"], limit=4)
    assert sum(counted) == 4
    asked(model, tasks, tmp_path / "run", ["letters"])
    assert sum(counted) == 9
    bare = asked(model, tasks, tmp_path / "run", ["letters"], final_norm=False)
    assert sum(counted) == 18
    every = thalweg.open_run(tmp_path / "run").experiments("mcq")
    assert len(every) == 3
    assert {one.header.status for one in every} == {"finished"}
    assert bare.header.settings["final_norm"] is False
    assert bare.header.versions["lm-eval"]
    asked(model, tasks, tmp_path / "run", ["letters"], limit=4.0)
    assert len(thalweg.open_run(tmp_path / "run").experiments("mcq")) == 3


def test_it_joins_the_run_of_a_survey_and_leaves_it_as_it_is(model, tasks, tmp_path):
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(f'{{"text": "{row} bottles of water by the river"}}\n' for row in range(3)))
    run = thalweg.survey(model, data, out=tmp_path / "run", options=QUIET)
    before = run.layers.collect()
    joined = asked(model, tasks, tmp_path / "run", ["letters"])
    assert joined.run == tmp_path / "run"
    after = thalweg.open_run(tmp_path / "run")
    assert after.status == "finished"
    assert after.header.identity == run.header.identity
    assert_frame_equal(after.layers.collect(), before, check_exact=True)


def test_a_tuned_lens_reads_the_states_before_the_last(found, model, tasks, tmp_path):
    from thalweg.lenses import save_tuned

    config = {"d_model": 32, "num_hidden_layers": 3, "bias": True, "lens_type": "linear_tuned_lens"}
    config |= {"base_model_name_or_path": Path(model).name}
    torch.manual_seed(1)
    tensors = {f"{state}.weight": torch.randn(32, 32) for state in range(3)}
    save_tuned(tmp_path / "lens", config, tensors | {f"{state}.bias": torch.randn(32) for state in range(3)})
    tuned = asked(model, tasks, tmp_path / "run", tuned=tmp_path / "lens")
    assert set(scores(tuned)["lens"]) == {"tuned"}
    assert_frame_equal(scores(tuned).filter(state=3).drop("lens"), scores(found).filter(state=3).drop("lens"))
    assert not scores(tuned)["value"].equals(scores(found)["value"])


def test_where_log_likelihoods_are_nan_there_is_no_score_and_the_reason_is_said(tasks, tmp_path):
    """A token whose embedding is NaN, in one question of one task."""
    broken = llama(num_hidden_layers=3, max_position_embeddings=256)
    odd = byte_tokenizer().encode("caf\u00e9")[-1]
    with torch.no_grad():
        broken.model.embed_tokens.weight[odd] = float("nan")
    rows = [{"ask": word, "options": ["yes", "no"], "right": 0} for word in ("river", "caf\u00e9", "moon")]
    how = {"doc_to_text": "{{ask}}?", "doc_to_target": "right", "doc_to_choice": "options"}
    tasks.write("odd", {"test": rows}, **how)
    path = save(broken, tmp_path / "model")
    found = scores(asked(path, tasks, tmp_path / "run", ["odd", "letters"]))
    assert odd not in proof_tokens(subject_of(broken))
    lost = found.filter(pl.col("value").is_nan())
    assert set(lost["task"]) == {"odd"}
    # at state 0 the token itself is NaN and predicts nothing that is asked for; later the others have read it
    assert lost["state"].unique().sort().to_list() == [1, 2, 3]
    assert set(lost["reason"]) == {"log-likelihoods of odd are not numbers"}
    assert found.filter(task="letters")["reason"].is_null().all()


def test_what_does_not_fit_into_memory_is_told_in_one_line_and_the_rest_stays(model, tasks, tmp_path, monkeypatch):
    own = answering.LogLikelihoods._answered

    def full(self, batch, given):
        if max(map(len, batch)) > 40:
            raise torch.OutOfMemoryError
        return own(self, batch, given)

    monkeypatch.setattr(answering.LogLikelihoods, "_answered", full)
    with pytest.raises(NotMeasured, match=r"out of memory: \d+ of \d+ prompts were not measured.*smaller --max-length"):
        asked(model, tasks, tmp_path / "run")
    assert list((tmp_path / "run" / "features").rglob("*.npy"))


def test_an_overflow_in_float16_stops_it(tasks, tmp_path):
    huge = llama(num_hidden_layers=3, max_position_embeddings=256)
    with torch.no_grad():
        huge.model.layers[1].mlp.down_proj.weight.mul_(1e6)
    path = save(huge, tmp_path / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "loaded", lambda one, *_: subject_of(load_model(one)))
        patch.setattr("thalweg.capture._proved.require", lambda *_: None)
        with pytest.raises(OverflowInFloat16, match="float16 ends at 65504"):
            asked(path, tasks, tmp_path / "run", ["letters"], options=replace(QUIET, dtype="float16"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"options": replace(QUIET, limit=3)}, "mcq takes limit=... itself"),
        ({"tuned": "lens", "final_norm": False}, "--no-final-norm goes with the logit lens"),
        ({"names": []}, "--task: expected at least one task, such as arc_easy; got none"),
        ({"num_fewshot": -2}, "--num-fewshot must be at least 0"),
    ],
)
def test_bad_input_is_one_clear_line_before_anything_is_loaded(model, tasks, tmp_path, monkeypatch, given, said):
    monkeypatch.setattr(over_prompts, "load_model", lambda *_: pytest.fail("loaded"))
    with pytest.raises(UsageError) as left:
        asked(model, tasks, tmp_path / "run", **given)
    assert said in str(left.value)
    assert not (tmp_path / "run").exists()
