"""A survey over the checkpoints of a training, or over the sizes of a family (the paper, Figs. 2, 12 and 14)."""

from collections.abc import Sequence
from itertools import zip_longest

from thalweg.errors import ModelError, OverflowInFloat16, ProofError, ThalwegError
from thalweg.experiments._checkpoints.emergence import write_emergence
from thalweg.experiments._checkpoints.fetching import Fetching
from thalweg.experiments._survey.measure import ModelSurvey
from thalweg.experiments._survey.rows import aggregate
from thalweg.prompts import Source
from thalweg.store import RunWriter


def _measure(
    surveys: Sequence[ModelSurvey], sources: Sequence[Source], writer: RunWriter, *, prefetch: bool
) -> dict[str, ThalwegError]:
    """Measure what is unfinished, one after the other, and give what went wrong with single ones."""
    unfinished = [one for one in surveys if one.is_unfinished(sources)]
    for one in surveys:
        if one not in unfinished:
            for source in sources:
                one.require_some(source)
    several = len({one.model.name for one in surveys}) > 1
    failed = dict[str, ThalwegError]()
    with Fetching() as fetching:
        for one, following in zip_longest(unfinished, unfinished[1:]):
            fetching.wait()
            own, is_new = (one.model.name, one.model.revision), not any(one.done(source) for source in sources)
            try:
                one.loaded()
                if prefetch and following is not None:
                    fetching.begin(following.model)
                one.run(sources)
            except (ModelError, ProofError, OverflowInFloat16) as error:
                # Rows of an earlier call stay where loading failed, as without a network; out of float16's range the
                # model itself is, and a run that goes on has to end like an undisturbed one.
                leaves = is_new or isinstance(error, OverflowInFloat16)
                said = str(error) if leaves else f"{error} What was measured of it before stays."
                # one of its own: what was raised holds on to the weights by its traceback
                failed[own[0] if several else own[1]] = type(error)(said)
                if leaves:
                    writer.forget(*own)
                    writer.remove_model(*own)
            one.release()
    return failed


def _sum_up(writer: RunWriter) -> None:
    aggregate(writer)
    write_emergence(writer)
