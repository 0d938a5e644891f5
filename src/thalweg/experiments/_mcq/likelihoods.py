"""Log-likelihoods of continuations at every state: each input is read once, and never again in this run."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from thalweg import metrics
from thalweg.capture import IdentifiedModel, Subject
from thalweg.engines import progress_bar, run_shards
from thalweg.errors import UsageError
from thalweg.experiments._mcq.requests import Request
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._over_prompts import batching, loaded
from thalweg.experiments._pass import Reduced, StateSeen, read
from thalweg.lenses import LensChoice, LogitLens, TunedLens
from thalweg.prompts import Prompt, Shard
from thalweg.store import FeatureStore, text_hash

BATCHES = 4
"""Full batches that are written together."""

Asked = Sequence[tuple[str, Request]]
"""All requests about one input, each with its digest."""
Answered = tuple[list[str], np.ndarray]
"""Digests, and by request and state what the store holds."""


@dataclass(frozen=True)
class _Targets:
    """The tokens that some requests ask for, in the order of the rows that predict them.

    Attributes:
        places: which of the rows that are kept.
        tokens: the token to come.
        owners: whose it is.
    """

    places: Tensor
    tokens: Tensor
    owners: Tensor


class LogLikelihoods:
    """Answers requests at every state of a model through a lens; measures what the run does not hold.

    Whoever calls it holds the run: an experiment that is open for writing.

    Attributes:
        store: what the run holds: by request and state the log-likelihood, and 1 where the continuation is greedy.
        passes: inputs that went through the model.
    """

    def __init__(
        self,
        model: IdentifiedModel,
        run: str | Path,
        choice: LensChoice,
        options: SurveyOptions,
        subject: Callable[[], Subject] | None = None,
    ) -> None:
        """Find what the run holds; nothing is loaded yet.

        Args:
            model: identified; loaded once a request is missing.
            run: the run's directory.
            choice: which lens.
            options: how prompts share a forward pass.
            subject: gives the model, loaded and proved, where another one has it already.
        """
        self._model, self._choice, self._options, self._load = model, choice, options, subject
        named = {name: getattr(model, name) for name in ("name", "revision", "weights", "configuration", "dtype")}
        self.store = FeatureStore(run, {"holds": "log-likelihoods of requests", **named, **choice.settings})
        self.passes = 0

    def __call__(self, requests: Sequence[Request], *, title: str = "requests") -> np.ndarray:
        """Answer requests.

        Args:
            requests: any; those with the same input are read together.
            title: of the bar.

        Returns:
            requests x states x 2, float32: log-likelihood in nats, and whether the continuation is greedy.

        Raises:
            UsageError: an input does not fit into memory.
            OverflowInFloat16: a float16 state holds an Inf.
            RunError: the disk is full or cannot be written; what is whole stays.
        """
        digests = [_digest(request) for request in requests]
        missing = {
            digest: request for digest, request in zip(digests, requests, strict=True) if digest not in self.store
        }
        if missing:
            self._measure(missing, title)
        return self.store.read(digests)[:]

    @cached_property
    def subject(self) -> Subject:
        """The model, loaded and proved the first time that it is needed."""
        return loaded(self._model, "unembedding") if self._load is None else self._load()

    @cached_property
    def lens(self) -> LogitLens | TunedLens:
        """The lens on it."""
        return self._choice.on(self.subject, self._model)

    def _measure(self, missing: Mapping[str, Request], title: str) -> None:
        by_input = dict[tuple[int, ...], list[tuple[str, Request]]]()
        for digest, request in missing.items():
            by_input.setdefault(request.tokens, []).append((digest, request))
        asked = [by_input[tokens] for tokens in sorted(by_input, key=len, reverse=True)]  # the longest tells what fits
        inputs = [requests[0][1].tokens for requests in asked]
        prompts = [Prompt(row, tokens, text="", sha256="", truncated=False) for row, tokens in enumerate(inputs)]
        options = batching(self.subject, self._options)

        def finish(shard: Shard, results: list[Answered]) -> None:
            if results:
                written = [digest for digests, _ in results for digest in digests]
                self.store.write(written, np.concatenate([values for _, values in results]))
            if shard.skipped:
                longest = max(len(prompts[row.row]) for row in shard.skipped)
                raise UsageError(
                    f"a request of {longest} tokens does not fit into memory. Try a smaller --max-length, or a smaller "
                    "--dtype; what is answered stays."
                )

        with progress_bar(title, len(prompts), shown=self._options.progress) as progress:
            run_shards(
                _shards(prompts, BATCHES * options.token_budget),
                measure=lambda batch: self._answered(batch, [asked[prompt.row] for prompt in batch]),
                finish=finish,
                options=options,
                progress=progress,
            )

    def _answered(self, batch: Sequence[Prompt], asked: Sequence[Asked]) -> Answered:
        """Every request about the inputs of one batch, at all states."""
        depths = [max(len(request.targets) for _, request in requests) for requests in asked]
        targets, count = _targets(asked, depths), sum(map(len, asked))
        lens = self.lens  # it runs the model when it is made, which nobody may watch

        def likelihoods(index: int, seen: StateSeen) -> Tensor:
            kept = [rows[len(rows) - depth :] for rows, depth in zip(seen.prompts, depths, strict=True)]
            return _likelihoods(lens, index, torch.cat(kept), targets, count)

        states = Reduced(likelihoods)
        read(self.subject, batch, states)
        self.passes += len(batch)
        return [digest for requests in asked for digest, _ in requests], torch.stack(states.rows, 1).numpy()


def _likelihoods(lens: LogitLens | TunedLens, state: int, rows: Tensor, targets: _Targets, count: int) -> Tensor:
    """Continuation x 2 of some rows at one state; of the vocabulary one piece of the rows is held."""
    likelihoods, greedy = list[Tensor](), list[Tensor]()
    for piece in torch.arange(len(rows)).split((lens.model if isinstance(lens, TunedLens) else lens).rows_at_once):
        first, stop = int(piece[0]), int(piece[-1]) + 1
        said = metrics.log_probabilities(lens.logits(state, rows[first:stop]))
        begin, end = torch.searchsorted(targets.places, torch.tensor([first, stop])).tolist()
        places, tokens = (targets.places[begin:end] - first).to(said.device), targets.tokens[begin:end].to(said.device)
        values, best = metrics.target_likelihoods(said, places, tokens)
        likelihoods.append(values.cpu())
        greedy.append(best.cpu())
    sums, every = metrics.continuation_likelihood(torch.cat(likelihoods), torch.cat(greedy), targets.owners, count)
    return torch.stack([sums.float(), every.float()], -1)


def _digest(request: Request) -> str:
    """By what a request is found: the tokens that enter, and those that are to come."""
    return text_hash(json.dumps([request.tokens, request.targets]))


def _targets(asked: Sequence[Asked], depths: Sequence[int]) -> _Targets:
    """What requests ask of rows of which the last of every input are kept, as many as its longest request needs."""
    rows, first, owner = list[tuple[int, int, int]](), 0, 0
    for requests, depth in zip(asked, depths, strict=True):
        for _, request in requests:
            begin = first + depth - len(request.targets)
            rows += [(begin + place, token, owner) for place, token in enumerate(request.targets)]
            owner += 1
        first += depth
    return _Targets(*torch.tensor(sorted(rows, key=lambda row: row[0])).T.contiguous())


def _shards(prompts: Sequence[Prompt], tokens: int) -> Iterator[Shard]:
    """Inputs that are written together, about so many tokens."""
    first, size = 0, 0
    for place, prompt in enumerate(prompts):
        size += len(prompt)
        if size >= tokens or place == len(prompts) - 1:
            yield Shard(first, place + 1, tuple(prompts[first : place + 1]), ())
            first, size = place + 1, 0
