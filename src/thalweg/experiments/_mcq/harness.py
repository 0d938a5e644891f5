"""lm-evaluation-harness: its tasks, its prompts, its tokens and its scores. The one file that imports it.

lm-eval runs twice around a measurement. First it builds its tasks and encodes every request as it does for a Hugging
Face model, and is stopped where that model would run. Then, as often as there are answers to be scored, it evaluates a
model that gives these answers, on the same requests.
"""

import copy
import difflib
import logging
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets

from thalweg.errors import DataError, ThalwegError, UsageError
from thalweg.experiments._mcq.measure import Answers, HarnessOptions, Question, Request, TaskScore
from thalweg.prompts import uncounted

try:
    from lm_eval.api import task as building
    from lm_eval.api.model import LM, TemplateLM
    from lm_eval.evaluator import evaluate, simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "lm_eval":
        raise
    raise UsageError("mcq needs lm-eval, which is not installed. Run: pip install lm-eval") from error

LIKELIHOODS = ("multiple_choice", "loglikelihood")
GENERATION = "generate_until"
"""What lm-eval takes a task for that does not say what it is."""

BOS = {"auto": None, "always": True, "never": False}
NEAREST = 3
HuggingFaceLM: Any = HFLM
"""To a type checker the decorator on lm-eval's class hides which class it is."""


class LmEvalTasks:
    """Tasks that are built once, and scored as often as there are answers.

    Attributes:
        requests: what has to be answered, each once.
        max_length: longest request in tokens.
        tasks: their names, groups expanded.
    """

    def __init__(self, names: Sequence[str], tokenizer: Any, config: Any, options: HarnessOptions) -> None:
        """Build tasks and encode their requests; no weights of the model are needed.

        Raises:
            UsageError: a name is unknown, a task has no log-likelihoods to score, or its data or prompts cannot be had.
        """
        self._limit: Any = options.limit
        recorder = _Recorder(tokenizer, config, options)
        self.max_length: int = recorder.max_length
        with _quiet(bars=options.bars):
            manager = _manager(names, options.include_path)
            _record(recorder, manager, _resolved(names, manager), options)
        self._loaded: dict[str, Any] = manager.loaded
        self._tasks: dict[str, Any] = manager.loaded["tasks"]
        self.tasks = tuple(self._tasks)
        self._place, places, cut = dict[tuple[str, str], int](), dict[Request, int](), set[int]()
        for asked, context, continuation in recorder.recorded:
            request = _request(asked, context, continuation, self.max_length)
            self._place[asked] = places.setdefault(request, len(places))
            if len(context) + len(continuation) > self.max_length + 1:
                cut.add(places[request])
        self.requests = tuple(places)
        self._described = {name: _described(task, self._place, cut) for name, task in self._tasks.items()}
        for task in self._tasks.values():
            _build_once(task)

    def scores(self, answers: Answers) -> tuple[list[TaskScore], dict[Question, float]]:
        """Have lm-eval score a model that gives these answers.

        A row for each task, or group of them, and metric; and of each question its accuracy.
        """
        known = {asked: answers[place] for asked, place in self._place.items()}
        for task in self._tasks.values():
            for instance in task.instances:
                instance.resps, instance.filtered_resps = [], {}
        with _quiet(bars=False):
            model: Any = _Answering(known)
            results: Any = evaluate(lm=model, task_dict=self._loaded, limit=self._limit, log_samples=True)
        nan = {place for place, (likelihood, _) in enumerate(answers) if math.isnan(likelihood)}
        undefined = {name for name, task in self._described.items() if nan & task.places}
        known = {name: samples for name, samples in results["samples"].items() if name not in undefined}
        rows = [row for name in results["results"] for row in self._rows(name, results, undefined)]
        return rows, dict(item for name, samples in known.items() for item in _accuracies(name, samples))

    def _rows(self, name: str, results: Mapping[str, Any], undefined: set[str]) -> Iterator[TaskScore]:
        scored, group = results["results"][name], self._loaded.get("groups", {}).get(name)
        members = [name] if group is None else [task.task_name for task in group.get_all_tasks()]
        lost = sorted(undefined & set(members))
        for key, value in scored.items():
            metric, comma, filtered = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = scored.get(f"{metric}_stderr,{filtered}")
            yield TaskScore(
                task=name,
                group=group is not None,
                metric=metric if filtered == "none" else key,
                value=math.nan if lost else float(value),
                stderr=float(error) if isinstance(error, int | float) and not lost else math.nan,
                n=int(scored["sample_len"]),
                chance=self._chance(metric, members, group, results),
                shots=results["n-shot"].get(name),
                version=str(results["versions"].get(name)),
                truncated=sum(self._described[member].truncated for member in members),
                reason=f"log-likelihoods of {', '.join(lost)} are not numbers" if lost else None,
            )

    def _chance(self, metric: str, members: Sequence[str], group: Any, results: Mapping[str, Any]) -> float:
        """Of a group averaged as lm-eval averages its scores: by questions, or every task alike."""
        if not metric.startswith("acc"):
            return math.nan
        how = [given for given in (group.aggregate_metric_list or ()) if given.metric == metric] if group else []
        alike = bool(how) and not how[0].weight_by_size
        weights = [1 if alike else results["results"][member]["sample_len"] for member in members]
        values = [self._described[member].chance for member in members]
        return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


def _accuracies(task: str, samples: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Question, float]]:
    """By task, metric and number of the document how well each question is answered."""
    for sample in samples:
        ending = "" if sample["filter"] == "none" else f",{sample['filter']}"
        for metric in sample["metrics"]:
            if metric.startswith("acc"):
                yield (task, f"{metric}{ending}", int(sample["doc_id"])), float(sample[metric])


class _Recorded(Exception):
    """The requests are known; nothing has been run."""


class _Recorder(HuggingFaceLM):
    """Encodes requests as lm-eval does for a Hugging Face model, by its own code, without the model."""

    def __init__(self, tokenizer: Any, config: Any, options: HarnessOptions) -> None:
        TemplateLM.__init__(self)  # HFLM's own would load the model
        self.backend, self.tokenizer, self._config = "causal", tokenizer, config
        self._model: Any = SimpleNamespace(config=config)
        self._max_length, self.add_bos_token = options.max_length, BOS[options.bos]
        self.custom_prefix_token_id = self.enable_thinking = None
        self.recorded = list[tuple[tuple[str, str], list[int], list[int]]]()
        self._bars = options.bars
        if self.prefix_token_id is None:
            raise UsageError(
                f"{tokenizer.name_or_path or 'the tokenizer'} has neither a beginning-of-sequence nor an "
                "end-of-sequence token, which lm-eval puts before a question without context."
            )

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm or not _shown(self._bars))

    def _loglikelihood_tokens(self, requests: Any, **_: Any) -> Any:
        self.recorded = requests
        raise _Recorded


class _Answering(LM):
    """A model that gives answers which are known."""

    def __init__(self, known: Mapping[tuple[str, str], tuple[float, bool]]) -> None:
        super().__init__()
        self._known = known

    def loglikelihood(self, requests: Any) -> Any:
        return [self._known[request.args] for request in requests]

    def generate_until(self, requests: Any) -> Any:
        raise NotImplementedError

    loglikelihood_rolling = generate_until


class _Manager(TaskManager):
    """Remembers the tasks that lm-eval loaded, and refuses those that have no log-likelihoods."""

    loaded: Any = None

    def load(self, task_list: Any) -> Any:
        self.loaded = super().load(task_list)
        for name, task in self.loaded["tasks"].items():
            _refuse_others(name, task.OUTPUT_TYPE)
        return self.loaded


def _manager(names: Sequence[str], include_path: Sequence[str]) -> _Manager:
    """An index of tasks: of one's own alone where that holds every name, since lm-eval's own is long to read."""
    paths: Any = list(include_path)
    if paths:
        alone = _Manager(include_path=paths, include_defaults=False)
        if all(_stands_alone(name, alone.task_index) for name in names):
            return alone
    return _Manager(include_path=paths or None, include_defaults=not all(_is_file(name) for name in names))


def _stands_alone(name: Any, index: Mapping[str, Any]) -> bool:
    """Whether an index holds a name and, if it is a group, all that it names."""
    entry = index.get(name) if isinstance(name, str) else None
    if entry is None or entry.kind.name != "GROUP":
        return entry is not None
    children = (entry.cfg or {}).get("task", [])
    named = [child.get("task") if isinstance(child, dict) else child for child in children]
    return all(_stands_alone(child, index) for child in named)


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) and Path(name).is_file()


def _resolved(names: Sequence[str], manager: _Manager) -> list[str]:
    """Names that lm-eval can load, patterns expanded; unknown ones and tasks without log-likelihoods are refused."""
    wanted = list[str]()
    for name in names:
        matching = [name] if name in manager.task_index or _is_file(name) else manager.match_tasks([name])
        if not matching:
            near = difflib.get_close_matches(name, manager.all_tasks, NEAREST, 0.5)
            meant = f"did you mean {' or '.join(near)}?" if near else "expected one that `lm_eval ls tasks` lists."
            raise UsageError(
                f"--task {name} is unknown to lm-eval: {meant} Tasks of your own need --include-path DIRECTORY."
            )
        wanted += [match for match in matching if match not in wanted]
    for name in wanted:
        entry = manager.task_index.get(name)
        for task in [name, *sorted(entry.tags)] if entry is not None and entry.kind.name == "TAG" else [name]:
            known = manager.task_index.get(task)
            if known is not None and known.kind.name == "TASK" and known.cfg is not None:
                _refuse_others(task, known.cfg.get("output_type", GENERATION))
    return wanted


def _refuse_others(name: str, kind: str) -> None:
    if kind not in LIKELIHOODS:
        what = "a generation task" if kind == GENERATION else f"a task of type {kind}"
        raise UsageError(
            f"--task {name} is {what}: expected one whose answers are scored by their log-likelihood "
            f"({' or '.join(LIKELIHOODS)}). Run it with lm_eval itself."
        )


def _record(recorder: _Recorder, manager: _Manager, names: list[str], options: HarnessOptions) -> None:
    """Have lm-eval set everything up as ever, up to where a model would run."""
    caching, asked = options.cache_requests, dict[str, Any](tasks=names, limit=options.limit)
    try:
        simple_evaluate(
            model=recorder,
            **asked,
            num_fewshot=options.num_fewshot,
            cache_requests=caching in ("true", "refresh"),
            rewrite_requests_cache=caching == "refresh",
            delete_requests_cache=caching == "delete",
            log_samples=False,
            task_manager=manager,
        )
    except _Recorded:
        return
    except ThalwegError:
        raise
    except Exception as error:  # whatever a task's own code, a template or the source of its data may raise
        said = next(iter(str(error).splitlines()), "")
        raise DataError(
            f"lm-eval cannot build {', '.join(names)}: {type(error).__name__}: {said.rstrip('.')}. Check the task's "
            "YAML, and that its data can be reached."
        ) from error
    raise DataError(f"{', '.join(names)}: lm-eval asks nothing. Check the task's data.")


def _request(asked: tuple[str, str], context: list[int], continuation: list[int], longest: int) -> Request:
    """The tokens that enter the model, cut at the left as lm-eval cuts them."""
    if not continuation or not context:
        raise DataError(f"expected an answer of one token or more; {asked[1]!r} gives none after its context.")
    if len(continuation) > longest:
        raise DataError(
            f"expected answers of at most {longest} tokens; got one of {len(continuation)}: {asked[1][:60]!r}. "
            "Raise --max-length, if the model goes as far."
        )
    tokens = [*context, *continuation][-(longest + 1) :]
    return Request(tuple(tokens[:-1]), tuple(continuation))


def _build_once(task: Any) -> None:
    """Keep what a task makes of its documents: examples would be drawn anew, and templates filled in at every state."""
    iterate, documents = task.doc_iterator, list[Any]()

    def doc_iterator(**asked: Any) -> Iterator[Any]:
        if not documents:
            documents.extend(iterate(**asked))
        return iter(documents)

    task.build_all_requests = lambda **_: None
    task.doc_iterator = doc_iterator
    for name in ("doc_to_target", "doc_to_choice"):
        if hasattr(task, name):
            setattr(task, name, _once_each(getattr(task, name)))


def _once_each(read: Callable[..., Any]) -> Callable[..., Any]:
    """The same of a document that was read before, which lives as long as its task does."""
    known = dict[int, tuple[Any, Any]]()

    def remembered(doc: Any, *asked: Any, **options: Any) -> Any:
        if asked or options:
            return read(doc, *asked, **options)
        if id(doc) not in known:
            known[id(doc)] = (doc, read(doc))
        return copy.copy(known[id(doc)][1])

    return remembered


def _described(task: Any, places: Mapping[tuple[str, str], int], cut: set[int]) -> Any:
    """Which requests are a task's, how many of them were cut, and how often chance is right."""
    asked = {places[instance.args] for instance in task.instances}
    options = defaultdict[Any, list[Any]](list)
    for instance in task.instances:
        options[instance.doc_id].append(instance)
    guesses = [_guess(task, instances) for instances in options.values()]
    chance = sum(guesses) / len(guesses) if guesses else math.nan
    return SimpleNamespace(places=asked, truncated=len(cut & asked), chance=chance)


def _guess(task: Any, instances: Sequence[Any]) -> float:
    """1 / number of options, where one of them is right and the task scores in the usual way."""
    scored_otherwise = getattr(task.config, "process_results", None) is not None
    if task.OUTPUT_TYPE != "multiple_choice" or scored_otherwise:
        return math.nan
    doc = instances[0].doc
    if not hasattr(task, "doc_to_choice"):
        return 1 / len(instances)
    if isinstance(task.doc_to_target(doc), list):
        return math.nan
    return 1 / len(task.doc_to_choice(doc))


def _shown(bars: bool) -> bool:
    return bars and sys.stderr.isatty()


@contextmanager
def _quiet(*, bars: bool) -> Iterator[None]:
    """No log below an error, no bars where nobody looks, and nobody told of what is loaded."""
    with ExitStack() as stack:
        stack.enter_context(uncounted())
        for name in ("lm_eval", "transformers"):
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        if not _shown(bars):
            stack.callback(setattr, building, "tqdm", building.tqdm)
            building.tqdm = partial(building.tqdm, disable=True)  # pyright: ignore[reportAttributeAccessIssue]
            if not datasets.are_progress_bars_disabled():
                stack.callback(datasets.enable_progress_bars)
                datasets.disable_progress_bars()
        yield
