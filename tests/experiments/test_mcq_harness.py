"""Requests are encoded as lm-eval encodes them for a Hugging Face model, and scored by lm-eval itself."""

import logging
import math
import sys
from importlib import import_module
from types import SimpleNamespace

import pytest
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tests.local_mcq import Tasks, blanks, endings, questions
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from saved import llama
from thalweg.errors import DataError, UsageError
from thalweg.experiments._mcq import harness as module
from thalweg.experiments._mcq.harness import LmEvalTasks
from thalweg.experiments._mcq.measure import HarnessOptions
from thalweg.reference import byte_tokenizer

CONFIG = llama(max_position_embeddings=512).config


def word_tokenizer():
    """Words and spaces, with a beginning-of-sequence token of its own accord, as Llama's has."""
    vocabulary = {"<s>": 0, "</s>": 1, "<unk>": 2} | {chr(code): code for code in range(32, 127)}
    vocabulary |= {word: 200 + place for place, word in enumerate((" river", " valley", " stone", " moon", "er"))}
    own = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.Metaspace(replacement="_")
    own.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=own, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


TOKENIZERS = {"bytes": byte_tokenizer, "adds its own": word_tokenizer}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return Tasks(tmp_path_factory.mktemp("tasks"))


def built(tasks, *names, tokenizer=None, config=CONFIG, **options):
    own = {"include_path": (str(tasks.path),), "bars": False, **options}
    return LmEvalTasks(names, tokenizer or byte_tokenizer(), config, HarnessOptions(**own))


def lm_evals(tasks, *names, tokenizer=None, config=CONFIG, limit=None, bos=None, shots=None, longest=None):
    """What HFLM itself would run, request by request, and the scores of made-up answers."""
    model = llama(max_position_embeddings=512)
    model.config = config
    own = HFLM(pretrained=model, tokenizer=tokenizer or byte_tokenizer(), add_bos_token=bos, max_length=longest)
    seen = []

    def answer(requests, **_):
        seen.extend(requests)
        return [made_up(context[0], context[1]) for context, *_ in requests]

    own._loglikelihood_tokens = answer
    loaded = TaskManager(include_path=str(tasks.path), include_defaults=False).load([*names])
    for task in loaded["tasks"].values():
        task.set_config("num_fewshot", shots or 0)
        task.set_fewshot_seed(1234)
    return seen, evaluate(own, loaded, limit=limit, log_samples=False)


def made_up(context, continuation):
    return -float(sum(map(ord, continuation + context[-3:])) % 97), len(continuation) % 3 == 0


def answers(own):
    found = {place: made_up(*asked) for asked, place in own._place.items()}
    return [found[place] for place in range(len(own.requests))]


@pytest.fixture(autouse=True)
def silent(monkeypatch):
    """HFLM's own warnings about a model that is loaded already."""
    monkeypatch.setattr(logging.getLogger("lm_eval"), "level", logging.ERROR)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize(("bos", "added"), [("auto", None), ("always", True), ("never", False)])
def test_tokens_and_scores_are_those_of_lm_eval(tasks, kind, bos, added):
    tokenizer, names = (
        TOKENIZERS[kind](),
        (tasks.choice("plain"), tasks.letters(), tasks.choice("bare", doc_to_text="")),
    )
    names += (tasks.choice("trailing", doc_to_text="{{ask}}:  ", target_delimiter=""),)
    own = built(tasks, *names, tokenizer=tokenizer, bos=bos)
    seen, results = lm_evals(tasks, *names, tokenizer=tokenizer, bos=added)
    assert len(seen) > len(own.requests) > 50
    for asked, context, continuation in seen:
        request = own.requests[own._place[asked]]
        assert [*request.tokens, request.targets[-1]] == context + continuation
        assert list(request.targets) == continuation
    rows = {(row.task, row.metric): row for row in own.scores(answers(own))[0]}
    for name in names:
        for metric in ("acc", "acc_norm"):
            row = rows[name, metric]
            assert (row.value, row.stderr) == tuple(
                results["results"][name][f"{metric}{end},none"] for end in ("", "_stderr")
            )
            assert (row.n, row.version, row.shots) == (results["results"][name]["sample_len"], "2.0", 0)


def test_few_shots_are_drawn_once_and_as_lm_eval_draws_them(tasks):
    name = tasks.choice("shots")
    own = built(tasks, name, num_fewshot=3, limit=5)
    seen, results = lm_evals(tasks, name, shots=3, limit=5)
    assert {asked for asked, *_ in seen} == set(own._place)
    first = own.scores(answers(own))[0]
    assert first == own.scores(answers(own))[0]
    assert {row.shots for row in first} == {3}
    assert first[0].value == results["results"][name]["acc,none"]


def test_what_is_too_long_is_cut_at_the_left_as_lm_eval_cuts_it(tasks):
    name, longest = tasks.choice("long"), 40
    own = built(tasks, name, max_length=longest)
    seen, _ = lm_evals(tasks, name, longest=longest)
    for asked, context, continuation in seen:
        request = own.requests[own._place[asked]]
        assert list(request.tokens) == (context + continuation)[-(longest + 1) :][:-1]
        assert list(request.targets) == continuation
    cut = {tuple(context + continuation) for _, context, continuation in seen if len(context + continuation) > 41}
    assert 0 < own.scores(answers(own))[0][0].truncated == len(cut)
    assert built(tasks, name).max_length == 512
    with pytest.raises(DataError, match="expected answers of at most 4 tokens; got one of"):
        built(tasks, name, max_length=4)


def test_lm_evals_own_tasks_run_on_data_of_their_form(tasks):
    names = (
        tasks.lm_evals_own("own_winogrande", "winogrande/default.yaml", blanks(10, 5)),
        tasks.lm_evals_own("own_hellaswag", "hellaswag/hellaswag.yaml", endings(10, 6)),
    )
    own = built(tasks, *names)
    _, results = lm_evals(tasks, *names)
    rows = {(row.task, row.metric): row for row in own.scores(answers(own))[0]}
    assert set(rows) == {("own_winogrande", "acc"), ("own_hellaswag", "acc"), ("own_hellaswag", "acc_norm")}
    for (name, metric), row in rows.items():
        assert row.value == results["results"][name][f"{metric},none"]
        assert row.chance == (0.5 if name == "own_winogrande" else 0.25)


def test_options_of_one_question_about_one_input_and_equal_requests_are_read_once(tasks):
    own = built(tasks, tasks.letters())
    assert len({request.tokens for request in own.requests}) == 9
    assert len(own.requests) == 18
    assert built(tasks, "letters", tasks.letters("again")).requests == own.requests


def test_chance_is_by_question_and_a_group_averages_its_tasks_as_lm_eval_does(tasks):
    members = [tasks.choice("few", 5), tasks.letters("pairs")]
    own = built(tasks, tasks.group("both", members))
    rows = {(row.task, row.metric): row for row in own.scores(answers(own))[0]}
    sizes = [len(one["options"]) for one in questions(5, 2)]
    few, pairs, both = (rows[name, "acc"] for name in ("few", "pairs", "both"))
    assert few.chance == pytest.approx(sum(1 / size for size in sizes) / 5)
    assert pairs.chance == 0.5
    assert (both.group, both.n) == (True, 14)
    assert both.value == pytest.approx((5 * few.value + 9 * pairs.value) / 14)
    assert both.chance == pytest.approx((5 * few.chance + 9 * 0.5) / 14)
    assert own.tasks == ("few", "pairs")


def test_chance_is_unknown_where_it_is_no_accuracy_or_several_options_are_right(tasks):
    several = tasks.choice("several", doc_to_target="{{[0, 1]}}", doc_to_choice="{{options[:2]}}")
    likely = tasks.write(
        "likely",
        {"test": questions(4, 7)},
        output_type="loglikelihood",
        doc_to_text="{{ask}}",
        doc_to_target=" {{options[0]}}",
        metric_list=[
            {"metric": name, "aggregation": how} for name, how in (("acc", "mean"), ("perplexity", "perplexity"))
        ],
    )
    own = built(tasks, several, likely)
    rows = own.scores(answers(own))[0]
    assert {(row.task, row.metric) for row in rows} >= {("several", "acc"), ("likely", "acc"), ("likely", "perplexity")}
    assert all(math.isnan(row.chance) for row in rows)
    assert not any(math.isnan(row.value) for row in rows)


def test_an_answer_of_nan_leaves_its_task_without_a_score_and_no_other(tasks):
    own = built(tasks, tasks.choice("one"), tasks.letters("other"))
    given = answers(own)
    given[own._place[own._tasks["one"].instances[0].args]] = (math.nan, False)
    rows, _ = own.scores(given)
    lost = {row.task: row.reason for row in rows if math.isnan(row.value)}
    assert lost == {"one": "log-likelihoods of one are not numbers"}
    assert all(math.isnan(row.stderr) for row in rows if row.task == "one")


def test_lm_evals_own_cache_of_requests_is_used_as_ever(tasks, tmp_path, monkeypatch):
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path / "cache"))
    name = tasks.choice("cached")
    first = built(tasks, name, cache_requests="true", limit=4)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert len(first._tasks[name].instances) < len(built(tasks, name)._tasks[name].instances)
    monkeypatch.setattr(module.building.Task, "doc_iterator", lambda *_, **__: pytest.fail("built again"))
    again = built(tasks, name, cache_requests="true", limit=4)
    assert again.requests == first.requests
    monkeypatch.undo()
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path / "cache"))
    built(tasks, name, cache_requests="delete", limit=4)
    assert list((tmp_path / "cache").iterdir()) == []


def test_names_may_be_patterns_tags_and_files(tasks):
    names = {tasks.choice(name, 3, tag=["labelled"]) for name in ("part_a", "part_b")}
    assert set(built(tasks, "part_*").tasks) == set(built(tasks, "labelled").tasks) == names
    assert built(tasks, str(tasks.path / "part_a.yaml")).tasks == ("part_a",)
    assert len(built(tasks, "part_a", limit=0.5)._tasks["part_a"].instances) < len(
        built(tasks, "part_a")._tasks["part_a"].instances
    )


@pytest.fixture
def no_defaults(monkeypatch):
    """Without lm-eval's own index of 14,000 tasks, which takes long to read."""
    own = module._Manager
    monkeypatch.setattr(module, "_Manager", lambda **given: own(**{**given, "include_defaults": False}))


@pytest.mark.usefixtures("no_defaults")
def test_an_unknown_name_is_told_with_the_nearest(tasks):
    tasks.choice("arc_local")
    with pytest.raises(UsageError, match="--task arc_locl is unknown to lm-eval: did you mean arc_local"):
        built(tasks, "arc_locl")
    with pytest.raises(UsageError, match="expected one that `lm_eval ls tasks` lists"):
        built(tasks, "qqqqqqqqqqqqqqqqqqq")


def test_tasks_without_log_likelihoods_are_refused_before_their_data_is_read(tasks):
    missing = {"test": tasks.path / "nowhere.jsonl"}
    how = {"doc_to_text": "{{ask}}", "doc_to_target": "{{options[0]}}", "metric_list": [{"metric": "exact_match"}]}
    tasks.write("writes", missing, output_type="generate_until", **how)
    tasks.write("says_nothing", missing, **how)
    text = (tasks.path / "says_nothing.yaml").read_text()
    (tasks.path / "says_nothing.yaml").write_text(text.replace("output_type: multiple_choice\n", ""))
    tasks.write("rolls", missing, output_type="loglikelihood_rolling", **how)
    for name in ("writes", "says_nothing"):
        with pytest.raises(UsageError, match=f"--task {name} is a generation task: expected one whose answers"):
            built(tasks, name)
    with pytest.raises(UsageError, match="--task rolls is a task of type loglikelihood_rolling"):
        built(tasks, "rolls")
    tasks.write("grouped", {"test": questions(3, 8)}, output_type="generate_until", **how)
    with pytest.raises(UsageError, match="--task grouped is a generation task"):
        built(tasks, tasks.group("mixed", [tasks.choice("fine", 3), "grouped"]))


def test_what_lm_eval_cannot_build_is_one_line(tasks):
    gone = tasks.choice("gone")
    (tasks.path / "gone.test.jsonl").unlink()
    broken = tasks.choice("broken", doc_to_target="{{nothing.at.all}}")
    empty = tasks.choice("empty_options", doc_to_choice="{{['', 'x']}}", target_delimiter="")
    for name in (gone, broken, empty):
        with pytest.raises(DataError, match=f"lm-eval cannot build {name}: .*Check the task's YAML") as left:
            built(tasks, name)
        assert "\n" not in str(left.value)
    with pytest.raises(DataError, match="expected an answer of one token or more; ' ' gives none after its context"):
        module._request(("Is it?", " "), [5, 6], [], 9)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"num_fewshot": -1}, "--num-fewshot must be at least 0; got -1"),
        ({"limit": 0}, "--limit takes a number of questions, or a share below 1; got 0"),
        ({"limit": 2.5}, "--limit takes a number of questions, or a share below 1; got 2.5"),
        ({"max_length": 1}, "--max-length must be at least 2; got 1"),
        ({"include_path": ("/nowhere",)}, "--include-path /nowhere: expected a directory with YAML files"),
        ({"cache_requests": "yes"}, "--cache-requests is true, refresh, delete; got yes"),
    ],
)
def test_options_are_checked_before_anything_else(asked, said):
    with pytest.raises(UsageError) as left:
        HarnessOptions(**asked)
    assert said in str(left.value)


def test_a_tokenizer_without_any_token_for_an_empty_context_is_refused(tasks):
    bare = SimpleNamespace(bos_token_id=None, eos_token_id=None, name_or_path="lab/bare")
    with pytest.raises(UsageError, match="lab/bare has neither a beginning-of-sequence nor an end-of-sequence token"):
        built(tasks, tasks.choice("any"), tokenizer=bare)


def test_without_lm_eval_the_line_that_installs_it_is_said(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "thalweg.experiments._mcq.harness", raising=False)
    with pytest.raises(UsageError, match=r"lm-eval, which is not installed. Run: pip install lm-eval"):
        import_module("thalweg.experiments._mcq.harness")
