"""What the sink token's row is made of: one forward pass over the first rows of a data set."""

from collections.abc import Sequence

import torch
from torch import Tensor

from thalweg import metrics
from thalweg.capture import AttentionSeen, observe
from thalweg.engines import run_shards
from thalweg.experiments._intervened import OnDemand
from thalweg.experiments._measure import token_batch
from thalweg.experiments._over_prompts import batching
from thalweg.experiments._prepare import Prepared
from thalweg.prompts import Prompt, read_shards

ROWS = 64
"""Under a causal mask the first token's row is the same in every prompt that begins with it."""


def scanned(own: Prepared, loading: OnDemand) -> metrics.SinkCoordinates:
    """The massive coordinates of the sink's row on one data set, over its first 64 rows whatever the limit.

    Args:
        own: one model and one data set.
        loading: the model.
    """
    shards = read_shards(own.sources[0], own.tokenizations[0], limit=ROWS, size=ROWS)
    rows, stand_out = list[Tensor](), list[list[metrics.SinkRow]]()

    def keep(_: object, results: list[_SinkRows]) -> None:
        for result in results:
            rows.extend(torch.stack(result.rows, 1))
            stand_out.extend(map(list, zip(*result.stand_out, strict=True)))

    def measure(batch: Sequence[Prompt]) -> _SinkRows:
        return _scan(loading, batch, own.options.sink_position)

    run_shards(shards, measure=measure, finish=keep, options=batching(loading.subject, own.options))
    return metrics.sink_coordinates(rows, stand_out, massive_ratio=own.options.massive_ratio)


@torch.no_grad()
def _scan(loading: OnDemand, batch: Sequence[Prompt], sink_position: int) -> "_SinkRows":
    subject = loading.subject
    seen = _SinkRows(batch, sink_position)
    with observe(subject, seen, torch.tensor([len(prompt) for prompt in batch])):
        subject.parts.body(input_ids=token_batch(subject, batch), use_cache=False)
    return seen


class _SinkRows:
    """Keeps the sink's row of every state and how it stands out."""

    def __init__(self, batch: Sequence[Prompt], sink_position: int) -> None:
        self.batch, self.sink_position = batch, sink_position
        self.rows = list[Tensor]()
        self.stand_out = list[list[metrics.SinkRow]]()

    def state(self, _: int, state: Tensor, /) -> None:
        owns = [own[: len(prompt)] for prompt, own in zip(self.batch, state, strict=True)]
        self.stand_out.append([metrics.sink_row(own, sink_position=self.sink_position) for own in owns])
        gap = torch.full((state.shape[-1],), torch.nan)
        kept = [own[self.sink_position].float().cpu() if self.sink_position < len(own) else gap for own in owns]
        self.rows.append(torch.stack(kept))

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        """Nothing of it is asked for."""
