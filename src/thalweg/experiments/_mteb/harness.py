"""MTEB's tasks, scores and result cache, with every state of a model as an embedding; the one file that imports mteb.

To mteb a state is a model of its own: an encoder that has no weights and answers from what ``embed`` gives. All states
are scored on the same texts, with the same random choices.
"""

import copy
import difflib
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thalweg.errors import DataError, UsageError
from thalweg.prompts import uncounted
from thalweg.store import FileFacts, facts_of, is_whole, os_errors_as_run_errors, slug, write_whole

_log = logging.getLogger("thalweg.store")
Array = npt.NDArray[Any]
ENGLISH = ("eng",)
FACTS = ".sum"
"""Beside a result of the cache: checksum and size of the file."""
BATCH = 256
"""Texts that mteb hands over together; those that are not measured yet are batched anew."""

SKEAN32 = (
    "AmazonCounterfactualClassification",
    "AmazonReviewsClassification",
    "ArxivClusteringS2S",
    "AskUbuntuDupQuestions",
    "BIOSSES",
    "Banking77Classification",
    "BiorxivClusteringS2S",
    "EmotionClassification",
    "MTOPDomainClassification",
    "MTOPIntentClassification",
    "MassiveIntentClassification",
    "MassiveScenarioClassification",
    "MedrxivClusteringS2S",
    "MindSmallReranking",
    "RedditClustering",
    "SICK-R",
    "STS12",
    "STS13",
    "STS14",
    "STS15",
    "STS16",
    "STS17",
    "STSBenchmark",
    "SciDocsRR",
    "SprintDuplicateQuestions",
    "StackExchangeClustering",
    "StackOverflowDupQuestions",
    "ToxicConversationsClassification",
    "TweetSentimentExtractionClassification",
    "TwentyNewsgroupsClustering",
    "TwitterSemEval2015",
    "TwitterURLCorpus",
)
"""The 32 English tasks of Skean et al. (2025), which the paper takes too, by their names in mteb."""

SETS = {"skean32": SKEAN32}
SUBSETS = {"AmazonCounterfactualClassification": ("en",), "STS17": ("en-en",)}
"""Where English is several subsets: the one of MTEB's English benchmark."""


@dataclass(frozen=True)
class States:
    """What is scored: the states of one model, named as the result cache does.

    ``key`` stands for everything that changes an embedding; ``embed`` gives texts at one state, rows x width.
    """

    name: str
    key: str
    count: int
    embed: Callable[[Sequence[str], int], Array]


@dataclass(frozen=True)
class StateScore:
    """What one state scores on one subset of a task; the fields are columns of the table ``scores``."""

    task: str
    type: str
    metric: str
    state: int
    split: str
    subset: str
    score: float
    data_revision: str
    reason: str | None


class _NotFinite(Exception):
    """An embedding holds a NaN or an infinity."""


class _StateEncoder:
    """One state, as mteb wants an encoder; similarity is the cosine."""

    def __init__(self, states: States, state: int) -> None:
        from mteb.models.model_meta import ModelMeta, ScoringFunction

        self._states, self._state = states, state
        described = {
            "name": f"{slug(states.name)}/state-{state}",
            "revision": states.key,
            "framework": ["PyTorch"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "use_instructions": False,
        }
        self.mteb_model_meta = ModelMeta.create_empty(described)

    def encode(self, inputs: Any, **_: Any) -> Array:
        """Give the texts of all batches at this state, which reads no instructions."""
        rows = self._states.embed([text for batch in inputs for text in batch["text"]], self._state)
        if not np.isfinite(rows).all():
            raise _NotFinite
        return rows

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosine of every row of one with every row of the other."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosine of each row of one with its row of the other."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)


def mteb_tasks(tasks: str | Sequence[Any], languages: Sequence[str] = ENGLISH) -> list[Any]:
    """Find tasks, given as :func:`thalweg.mteb` takes them; their data is not loaded yet.

    Raises:
        UsageError: mteb is not installed, or a task is unknown, given twice, not of texts, or not in these languages.

    Example:
        >>> [task.metadata.name for task in mteb_tasks("STS12,Banking77Classification")]
        ['STS12', 'Banking77Classification']
    """
    _require_mteb()
    wanted = list[Any]()
    for given in [tasks] if isinstance(tasks, str) else tasks:
        names = [name.strip() for name in given.split(",")] if isinstance(given, str) else [given]
        wanted += [task for name in names if name != "" for task in SETS.get(name, (name,))]
    if not wanted:
        raise UsageError("--tasks must name at least one MTEB task, or skean32; got none.")
    with _calm():
        named = [_named(task, tuple(languages)) if isinstance(task, str) else task for task in wanted]
    names = [task.metadata.name for task in named]
    for name, task in zip(names, named, strict=True):
        if names.count(name) > 1:
            raise UsageError(f"--tasks {name} is given twice; name each once.")
        if (kinds := list(task.metadata.modalities)) != ["text"]:
            raise UsageError(f"--tasks {name} is about {', '.join(kinds)}; a language model reads text.")
    return named


def state_scores(
    task: Any, states: States, cache: Path, *, done: Callable[[], None] = lambda: None
) -> list[StateScore]:
    """Score every state on a task, through mteb's own evaluation and its result cache in a directory.

    The first state that is scored asks for all texts; the data is not loaded where every state is in the cache.
    """
    from mteb import ResultCache

    results = ResultCache(cache)
    with _calm(), _loaded(task) as load:
        rows = list[StateScore]()
        for state in range(states.count):
            rows += _of_state(task, states, state, results, load)
            done()
        return rows


def _of_state(task: Any, states: States, state: int, results: Any, load: Callable[[], None]) -> list[StateScore]:
    import mteb

    encoder: Any = _StateEncoder(states, state)
    name = task.metadata.name
    places = [(split, subset) for split in task.eval_splits for subset in task.hf_subsets]
    file: Path = results.get_task_result_path(name, encoder.mteb_model_meta)
    _require_whole(file)
    stored: Any = results.load_task_result(name, encoder.mteb_model_meta)
    same = bool(stored) and stored.is_mergeable(task, ("mteb_version", "dataset_revision"))
    if not same or stored.get_missing_evaluations(task):
        load()
        try:
            with os_errors_as_run_errors(file):
                mteb.evaluate(
                    encoder,
                    _as_new(task),
                    cache=results,
                    overwrite_strategy="only-missing" if same else "always",
                    encode_kwargs={"batch_size": BATCH, "show_progress_bar": False},
                    co2_tracker=False,
                    show_progress_bar=False,
                )
                write_whole(file.with_suffix(FACTS), facts_of(file.read_bytes()).model_dump_json().encode())
        except _NotFinite:
            revision = str(task.metadata.dataset.get("revision", ""))
            return [_score(task, state, *place, math.nan, revision, "not finite") for place in places]
        stored = results.load_task_result(name, encoder.mteb_model_meta)  # as it is found by whoever comes later
    scores = {
        (split, each["hf_subset"]): each["main_score"] for split, subsets in stored.scores.items() for each in subsets
    }
    return [_score(task, state, *place, float(scores[place]), stored.dataset_revision) for place in places]


def _require_whole(file: Path) -> None:
    """Remove what the cache knows of a task where it is not what was written; it is scored again."""
    known = FileFacts(sha256="", size=0)
    with suppress(OSError, ValueError):
        known = FileFacts.model_validate_json(file.with_suffix(FACTS).read_bytes())
    if file.exists() and not is_whole(file, known):
        _log.warning("%s is damaged: it does not hold what was written; its task is scored again.", file)
        with os_errors_as_run_errors(file):
            file.unlink()


def _score(
    task: Any, state: int, split: str, subset: str, score: float, revision: str, reason: str | None = None
) -> StateScore:
    if reason is None and not math.isfinite(score):
        reason = "undefined on these embeddings"
    about = task.metadata
    return StateScore(about.name, str(about.type), about.main_score, state, split, subset, score, revision, reason)


def _as_new(task: Any) -> Any:
    """The same task and data with the random choices still to be made, so that every state gets the same."""
    fresh = copy.copy(task)
    fresh.rng_state, fresh.np_rng = copy.deepcopy((task.rng_state, task.np_rng))
    return fresh


@contextmanager
def _loaded(task: Any) -> Iterator[Callable[[], None]]:
    """Gives what loads the task's data once; it is let go at the end, unless it was there before."""
    before = task.data_loaded

    def load() -> None:
        try:
            task.load_data()
        except (OSError, RuntimeError, ValueError) as error:
            got = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise DataError(
                f"{task.metadata.name}: expected its data, {task.metadata.dataset['path']}, from the hub; got {got}. "
                "Check the network, set HF_HUB_OFFLINE=1 to use a copy downloaded before, or leave the task out of "
                "--tasks."
            ) from error

    yield load
    if task.data_loaded and not before:
        task.unload_data()


def _named(name: str, languages: tuple[str, ...]) -> Any:
    from mteb.get_tasks import TASK_LIST, get_task

    known = [task.metadata.name for task in TASK_LIST]
    if name not in known:
        near = _nearest(name, known)
        advice = f"Nearest: {', '.join(near)}." if near else "mteb.get_tasks() lists them."
        raise UsageError(f"--tasks {name} is no task of the installed mteb, nor one of {', '.join(SETS)}. {advice}")
    subsets = SUBSETS.get(name) if languages == ENGLISH else None
    language = list(languages) if languages and subsets is None else None
    try:
        task = get_task(name, languages=language, hf_subsets=subsets, exclusive_language_filter=language is not None)
    except ValueError as error:
        spoken = sorted({code.split("-")[0] for code in get_task(name).metadata.languages})
        raise UsageError(
            f"--tasks {name} has nothing in {', '.join(languages)}; it has {', '.join(spoken)}. Name them with "
            "--languages, or all."
        ) from error
    splits = list(task.eval_splits)
    return task.filter_eval_splits(["test"] if "test" in splits else splits)


def _nearest(name: str, known: Sequence[str]) -> list[str]:
    """Names that hold it come first, the shortest of them before the others, then names that are spelled alike."""
    folded = {task.lower(): task for task in known}
    holding = sorted((task for lower, task in folded.items() if name.lower() in lower), key=len)
    alike = [folded[lower] for lower in difflib.get_close_matches(name.lower(), folded, 3, 0.5)]
    return list(dict.fromkeys([*holding, *alike]))[:3]


def _require_mteb() -> None:
    try:
        with _calm():
            import mteb  # noqa: F401
    except ImportError as error:
        raise UsageError("MTEB's tasks need mteb, which is not installed. Run: pip install mteb") from error


@contextmanager
def _calm() -> Iterator[None]:
    """Without what mteb and its scorers remark for each of many states: older tasks, fits that did not converge."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("mteb")
    with warnings.catch_warnings(action="ignore"), uncounted(), ExitStack() as stack:
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
        if not are_progress_bars_disabled():
            stack.callback(enable_progress_bars)
            disable_progress_bars()
        yield
