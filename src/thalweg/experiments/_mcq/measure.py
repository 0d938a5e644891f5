"""Multiple choice: what a harness wants answered, and log-likelihoods at every state, each input being read once."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import torch
from pydantic import Field
from torch import Tensor

from thalweg import metrics
from thalweg.capture import IdentifiedModel, Subject, brought
from thalweg.engines import progress_bar, require_all, run_shards
from thalweg.experiments._mcq import TABLES
from thalweg.experiments._options import Names, SurveyOptions
from thalweg.experiments._over_prompts import batching, loaded
from thalweg.experiments._pass import Reduced, StateSeen, read
from thalweg.experiments._prepare import Prepared
from thalweg.lenses import LensChoice, LogitLens, TunedLens
from thalweg.paths import is_directory
from thalweg.prompts import Prompt, Shard
from thalweg.shapes import Float
from thalweg.store import FeatureStore, Findings, text_hash
from thalweg.validated import Says, meets, validated

Question = tuple[str, str, int]
"""Task, metric, and number of the document in it."""
Answers = Sequence[tuple[float, bool]]
"""For each request the log-likelihood of its targets, in nats, and whether each of them is the most probable token."""

CACHING = ("true", "refresh", "delete")
Directory = Annotated[str, meets(is_directory)]


@dataclass(frozen=True)
class Request:
    """How probable is this continuation?

    ``tokens`` enter the model: the context and all of the continuation, ``targets``, but its last token.
    """

    tokens: tuple[int, ...]
    targets: tuple[int, ...]

    @cached_property
    def digest(self) -> str:
        """By what it is found in the run."""
        return text_hash(json.dumps([self.tokens, self.targets]))


@dataclass(frozen=True)
class TaskScore:
    """One number of one task; the fields are columns of the table ``scores``."""

    task: str
    group: bool
    metric: str
    value: float
    stderr: float
    n: int
    chance: float
    shots: int | None
    version: str
    truncated: int
    reason: str | None


def _is_number_or_share(limit: int | float | None) -> bool:
    return limit is None or 0 < limit < 1 or (limit >= 1 and limit == int(limit))


@validated
class HarnessOptions:
    """What a harness is asked, as :func:`thalweg.mcq` says; ``bars`` shows the harness's own progress."""

    num_fewshot: Annotated[int | None, Field(ge=0), Says("--num-fewshot must be at least 0; got {got}.")] = None
    limit: Annotated[
        int | float | None,
        meets(_is_number_or_share),
        Says("--limit takes a number of questions, or a share below 1; got {got}."),
    ] = None
    include_path: Annotated[
        tuple[Directory, ...],
        Says("--include-path {got}: expected a directory with YAML files of tasks; got none."),
    ] = ()
    max_length: Annotated[int | None, Field(ge=2), Says("--max-length must be at least 2; got {got}.")] = None
    bos: str = "auto"
    cache_requests: Annotated[
        str | None,
        meets((None, *CACHING).__contains__),
        Says(f"--cache-requests is {', '.join(CACHING)}; got {{got}}."),
    ] = None
    bars: bool = True


NAME, PACKAGE = "mcq", "lm-eval"
BATCHES = 4
"""Full batches that are written together."""

Answered = tuple[list[str], np.ndarray]
"""Digests, and by request and state what the store holds."""


class LogLikelihoods:
    """Answers requests at every state of a model through a lens; measures what the run, open to write, does not hold.

    The store holds by request and state the log-likelihood, and 1 where the continuation is greedy; ``passes`` counts
    inputs that went through the model.
    """

    def __init__(
        self,
        model: IdentifiedModel,
        run: str | Path,
        choice: LensChoice,
        options: SurveyOptions,
        subject: Callable[[], Subject] | None = None,
    ) -> None:
        """Find what the run holds; once a request is missing the model is loaded, or taken from ``subject``."""
        self._model, self._choice, self._options, self._load = model, choice, options, subject
        named = {name: getattr(model, name) for name in ("name", "revision", "weights", "configuration", "dtype")}
        self.store = FeatureStore(run, {"holds": "log-likelihoods of requests", **named, **choice.settings})
        self.passes = 0

    def __call__(self, requests: Sequence[Request], *, title: str = "requests") -> np.ndarray:
        """Requests x states x 2, float32: log-likelihood in nats, and whether the continuation is greedy.

        Raises:
            UsageError: an input does not fit into memory; what is answered stays.
        """
        missing = {request.digest: request for request in requests if request.digest not in self.store}
        if missing:
            self._measure(missing.values(), title)
        return self.store.read([request.digest for request in requests])[:]

    @cached_property
    def subject(self) -> Subject:
        """The model, loaded and proved the first time that it is needed."""
        return loaded(self._model, "unembedding") if self._load is None else self._load()

    @cached_property
    def lens(self) -> LogitLens | TunedLens:
        """The lens on it."""
        return self._choice.on(self.subject, self._model)

    def _measure(self, missing: Iterable[Request], title: str) -> None:
        asked = defaultdict[tuple[int, ...], list[Request]](list)
        for request in missing:
            asked[request.tokens].append(request)
        inputs = sorted(asked, key=len, reverse=True)  # the longest tells what fits
        prompts = [Prompt(row, tokens, text="", sha256="", truncated=False) for row, tokens in enumerate(inputs)]
        options = batching(self.subject, self._options)

        def finish(shard: Shard, results: list[Answered]) -> None:
            if results:
                written = [digest for digests, _ in results for digest in digests]
                self.store.write(written, np.concatenate([values for _, values in results]))
            require_all(shard)

        with progress_bar(title, len(prompts), shown=self._options.progress) as progress:
            run_shards(
                _shards(prompts, BATCHES * options.token_budget),
                measure=lambda batch: self._answered(batch, [asked[inputs[prompt.row]] for prompt in batch]),
                finish=finish,
                options=options,
                progress=progress,
            )

    def _answered(self, batch: Sequence[Prompt], asked: Sequence[Sequence[Request]]) -> Answered:
        """Every request about the inputs of one batch, at all states."""
        depths = [max(len(request.targets) for request in requests) for requests in asked]
        targets, count = _targets(asked, depths), sum(map(len, asked))
        lens = self.lens  # it runs the model when it is made, which nobody may watch
        model = lens.model if isinstance(lens, TunedLens) else lens
        there = targets.to(model.unembedding.device)
        pieces = _pieces(targets[0], sum(depths), model.rows_at_once)

        def likelihoods(index: int, seen: StateSeen) -> Tensor:
            kept = [rows[len(rows) - depth :] for rows, depth in zip(seen.prompts, depths, strict=True)]
            return _likelihoods(lens, index, torch.cat(kept), there, pieces)

        states = Reduced(likelihoods)
        read(self.subject, batch, states)
        self.passes += len(batch)
        found = [
            metrics.continuation_likelihood(values, best == 1, targets[2], count)
            for values, best in brought(states.rows)
        ]
        answers = torch.stack([torch.stack([sums.float(), every.float()], -1) for sums, every in found], 1)
        return [request.digest for requests in asked for request in requests], answers.numpy()


def _likelihoods(
    lens: LogitLens | TunedLens, state: int, rows: Tensor, targets: Tensor, pieces: Sequence[tuple[slice, slice]]
) -> Float[Tensor, "2 target"]:
    """What each target has at one state, and 1 where it is greedy; of the vocabulary one piece of the rows is held."""
    found = list[Tensor]()
    for place, asked in pieces:
        said = metrics.log_probabilities(lens.logits(state, rows[place]))
        values, best = metrics.target_likelihoods(said, targets[0, asked] - place.start, targets[1, asked])
        found.append(torch.stack([values, best.to(values.dtype)]))
    return torch.cat(found, -1)


def _pieces(places: Tensor, count: int, step: int) -> list[tuple[slice, slice]]:
    """So many rows at a time, each with the targets that they predict."""
    ends = [*range(0, count, step), count]
    asked = torch.searchsorted(places, torch.tensor(ends)).tolist()
    return [
        (slice(first, stop), slice(begin, end))
        for first, stop, begin, end in zip(ends[:-1], ends[1:], asked[:-1], asked[1:], strict=True)
    ]


def _targets(asked: Sequence[Sequence[Request]], depths: Sequence[int]) -> Tensor:
    """Tokens that requests ask for: which row predicts it, the token, and whose it is, in the order of the rows.

    Of every input the last rows are kept, as many as its longest request needs.
    """
    rows, first, owner = list[tuple[int, int, int]](), 0, 0
    for requests, depth in zip(asked, depths, strict=True):
        for request in requests:
            begin = first + depth - len(request.targets)
            rows += [(begin + place, token, owner) for place, token in enumerate(request.targets)]
            owner += 1
        first += depth
    return torch.tensor(sorted(rows, key=lambda row: row[0])).T.contiguous()


def _shards(prompts: Sequence[Prompt], tokens: int) -> Iterator[Shard]:
    """Inputs that are written together, about so many tokens."""
    first, size = 0, 0
    for place, prompt in enumerate(prompts):
        size += len(prompt)
        if size >= tokens or place == len(prompts) - 1:
            yield Shard(first, place + 1, tuple(prompts[first : place + 1]), ())
            first, size = place + 1, 0


def answered(
    prepared: Prepared, names: Sequence[str], tasks: Any, asked: HarnessOptions, choice: LensChoice
) -> Findings:
    """Answer what is missing, and have every state scored by what the harness made of the tasks."""
    settings = {
        **prepared.key,  # the run may hold other models
        "tasks": list(names),
        "num_fewshot": asked.num_fewshot,
        "limit": asked.limit,
        "include_path": list(asked.include_path),
        "max_length": tasks.max_length,
        "bos": asked.bos,
        **choice.settings,
    }
    with prepared.opened(NAME, settings, TABLES) as writer:
        title = f"{Path(prepared.model.name).name} on {', '.join(tasks.tasks)}"
        likelihoods = LogLikelihoods(prepared.model, prepared.path, choice, prepared.options)
        values = likelihoods(tasks.requests, title=f"mcq: {title}")
        rows, key = list[dict[str, Any]](), {**prepared.key, "lens": settings["lens"]}
        by_question = list[dict[Question, float]]()
        with progress_bar(f"scores: {title}", values.shape[1], shown=asked.bars) as progress:
            for state in range(values.shape[1]):
                answers = [(float(value), bool(greedy)) for value, greedy in values[:, state]]
                scores, questions = tasks.scores(answers)
                rows += [{**key, "state": state, **asdict(score)} for score in scores]
                by_question.append(questions)
                progress.rows(1)
        each = [
            {
                **key,
                **dict(zip(("task", "metric", "row"), question, strict=True)),
                "right": [questions.get(question) for questions in by_question],
            }
            for question in dict.fromkeys(question for questions in by_question for question in questions)
        ]
        writer.write_table("answers", pl.DataFrame(each, schema=TABLES["answers"].schema))
        writer.write_table("scores", pl.DataFrame(rows, infer_schema_length=None))
        writer.update(status="finished")
    return writer.reading()


def listed(given: Names) -> list[str]:
    """Names as texts, each once."""
    return list(dict.fromkeys([str(given)] if isinstance(given, str | Path) else map(str, given)))
