"""What the sink token's row is made of: one forward pass over the first rows of a data set."""

from collections.abc import Sequence

from torch import Tensor

from thalweg import metrics
from thalweg.capture import AttentionSeen
from thalweg.engines import run_shards
from thalweg.experiments._intervened import OnDemand
from thalweg.experiments._over_prompts import batching
from thalweg.experiments._pass import SinkRows, read
from thalweg.experiments._prepare import Prepared
from thalweg.prompts import Prompt, read_shards

ROWS = 64
"""Under a causal mask the first token's row is the same in every prompt that begins with it."""


def scanned(prepared: Prepared, loading: OnDemand) -> metrics.SinkCoordinates:
    """The massive coordinates of the sink's row on one data set, over its first 64 rows whatever the limit.

    Args:
        prepared: one model and one data set.
        loading: the model.
    """
    options, subject = prepared.options, loading.subject
    shards = read_shards(prepared.sources[0], prepared.tokenizations[0], limit=ROWS, size=ROWS)
    rows, stand_out = list[Tensor](), list[list[metrics.SinkRow]]()

    def measure(batch: Sequence[Prompt]) -> _Scanned:
        scan = _Scanned(options.sink_position)
        read(subject, batch, scan)
        return scan

    def keep(_: object, scans: list[_Scanned]) -> None:
        for scan in scans:
            for number in range(len(scan.rows[0])):
                row, states = scan.of(number)
                rows.append(row)
                stand_out.append(states)

    run_shards(shards, measure=measure, finish=keep, options=batching(subject, options))
    return metrics.sink_coordinates(rows, stand_out, massive_ratio=options.massive_ratio)


class _Scanned(SinkRows):
    """The sink's rows as a measurement has them, to the last bit: a row clamped to its peak is then the row itself."""

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        """Nothing of it is asked for, but with it the pass is that of the measurement."""
