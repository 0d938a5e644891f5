"""What is told about one model: answers with their numbers, and questions that stay open with a command for each."""

from dataclasses import dataclass

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Exit:
    """From which state on an exit costs less than a share.

    Attributes:
        cost: per cent of what the last state reaches.
        state: the first state from which, to the last one, no state costs more.
        value: what it reaches.
        phase: in which it lies; None where phases are not known.
        told_apart: whether the same questions tell it from the last state; None where they cannot say.
        low, high: ends of the 95% interval of what it costs, in per cent, None where there is none.
    """

    cost: float
    state: int
    value: float
    phase: str | None
    told_apart: bool | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        question: what it answers.
        text: the answer in a sentence, with its numbers.
        source: the table in the run that it was read from.
        state: the state that is best, where one is.
        value: what that state reaches; of an early exit, what the last state reaches.
        low, high: ends of its 95% interval, None where there is none.
        tied: other states that the measurement does not tell from it; None where it cannot say.
        phase: in which the state lies; None where phases are not known.
        exits: of an early exit, one for each cost.
    """

    question: str
    text: str
    source: str
    state: int | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    tied: tuple[int, ...] | None = None
    phase: str | None = None
    exits: tuple[Exit, ...] = ()


@dataclass(frozen=True)
class Unanswered:
    """A question that the run cannot answer.

    Attributes:
        question: what stays open.
        command: what would measure it.
        reason: why not.
    """

    question: str
    command: str
    reason: str = NOT_MEASURED


@dataclass(frozen=True)
class Advice:
    """What a run says about one model.

    Attributes:
        model: its name.
        revision: its revision.
        blocks: L.
        phases: where it mixes, compresses and refines, in a sentence.
        answers: what the run can answer.
        unanswered: what it cannot.
    """

    model: str
    revision: str
    blocks: int
    phases: str
    answers: list[Answer]
    unanswered: list[Unanswered]
