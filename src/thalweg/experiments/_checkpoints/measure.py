"""A survey over the checkpoints of a training, or over the sizes of a family (the paper, Figs. 2, 12 and 14)."""

from collections.abc import Sequence
from itertools import zip_longest

from thalweg.errors import ModelError, OverflowInFloat16, ProofError, ThalwegError
from thalweg.experiments._checkpoints.emergence import write_emergence
from thalweg.experiments._checkpoints.fetching import Fetching
from thalweg.experiments._survey.measure import ModelSurvey
from thalweg.experiments._survey.rows import aggregate
from thalweg.prompts import Source
from thalweg.store import FindingsWriter


def _measure(
    surveys: Sequence[ModelSurvey], sources: Sequence[Source], writer: FindingsWriter, *, prefetch: bool
) -> dict[str, ThalwegError]:
    """Measure what is unfinished, one after the other, and give what went wrong with single ones."""
    unfinished = [survey for survey in surveys if survey.is_unfinished(sources)]
    for survey in surveys:
        if survey not in unfinished:
            for passage in survey.passages(sources):
                passage.require_some()
    several = len({survey.model.name for survey in surveys}) > 1
    failed = dict[str, ThalwegError]()
    with Fetching() as fetching:
        for survey, following in zip_longest(unfinished, unfinished[1:]):
            fetching.wait()
            name = (survey.model.name, survey.model.revision)
            is_new = not any(passage.done for passage in survey.passages(sources))
            try:
                survey.loaded()
                if prefetch and following is not None:
                    fetching.begin(following.model)
                survey.run(sources)
            except (ModelError, ProofError, OverflowInFloat16) as error:
                # Rows of an earlier call stay where loading failed, as without a network; out of float16's range the
                # model itself is, and a run that goes on has to end like an undisturbed one.
                leaves = is_new or isinstance(error, OverflowInFloat16)
                said = str(error) if leaves else f"{error} What was measured of it before stays."
                # made anew: what was raised holds on to the weights by its traceback
                failed[name[0] if several else name[1]] = type(error)(said)
                if leaves:
                    writer.forget(*name)
                    writer.remove_model(*name)
            survey.release()
    return failed


def _sum_up(writer: FindingsWriter) -> None:
    aggregate(writer)
    write_emergence(writer)
