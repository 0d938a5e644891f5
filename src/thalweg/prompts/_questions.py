"""Multiple-choice questions, in the forms that their data sets have.

A question is read with lettered options, always A, B, C, ..., whatever letters the data set uses; or with one
option at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

Record = Mapping[str, Any]
BLANK = "_"


@dataclass(frozen=True)
class Question:
    """What is asked, the answers to choose from, the index of the right one, the question with each in its place."""

    stem: str
    options: tuple[str, ...]
    answer: int
    joined: tuple[str, ...]

    @property
    def lettered(self) -> str:
        """The question, and below it every option with a letter."""
        lines = (f"{letter}. {option}" for letter, option in zip(ascii_uppercase, self.options, strict=False))
        return "\n".join((self.stem, *lines))


@dataclass(frozen=True)
class QuestionForm:
    """One way in which data sets write a question.

    ``fields`` are the top-level fields that tell it, and that are read; those of ``also`` are where they are there;
    ``parse`` raises where a record is no question.
    """

    fields: tuple[str, ...]
    also: tuple[str, ...]
    parse: Callable[[Record], Question]

    def question(self, record: Record) -> Question | None:
        """The question of a record, None where it is none with two options or more and one right answer."""
        try:
            question = self.parse(record)
        except (KeyError, IndexError, TypeError, ValueError):  # whatever a record may hold in place of a question
            return None
        count, texts = len(question.options), (question.stem, *question.options)
        usable = 2 <= count <= len(ascii_uppercase) and 0 <= question.answer < count
        return question if usable and all(isinstance(text, str) and text.strip() for text in texts) else None


def form_of(fields: tuple[str, ...]) -> QuestionForm | None:
    """The form that data with these fields have, or None."""
    return next((form for form in FORMS if set(form.fields) <= set(fields)), None)


def _arc(record: Record) -> Question:
    """AI2's form: on the hub the choices are two lists, in the original files a list of records in the question."""
    asked = record["question"]
    stem, choices = (asked["stem"], asked["choices"]) if isinstance(asked, Mapping) else (asked, record["choices"])
    if isinstance(choices, Mapping):
        texts, labels = list(choices["text"]), list(choices["label"])
    else:
        texts, labels = [choice["text"] for choice in choices], [choice["label"] for choice in choices]
    return _followed(stem, texts, _place(labels, str(record["answerKey"])))


def _place(labels: Sequence[str], key: str) -> int:
    """The option that a key names by its label; there are copies of ARC that label options by 1 and answer with A."""
    if key in labels:
        return labels.index(key)
    return ascii_uppercase.index(key) if key.isalpha() else int(key) - 1


def _hellaswag(record: Record) -> Question:
    return _followed(record["ctx"], record["endings"], int(str(record["label"])))


def _winogrande(record: Record) -> Question:
    """The blank is filled in the middle of the sentence."""
    sentence, options = record["sentence"], (record["option1"], record["option2"])
    if not isinstance(sentence, str) or BLANK not in sentence:
        raise ValueError("no blank")
    joined = tuple(sentence.replace(BLANK, str(option), 1) for option in options)
    return Question(sentence, tuple(map(str, options)), int(str(record["answer"])) - 1, joined)


def _listed(record: Record) -> Question:
    """A list of choices, and the right one by its index or letter, as in MMLU."""
    answer = str(record["answer"])
    place = ascii_uppercase.index(answer) if answer.isalpha() else int(answer)
    return _followed(record["question"], record["choices"], place)


def _followed(stem: Any, options: Any, answer: int) -> Question:
    if not isinstance(options, list | tuple):  # a text would fall apart into letters
        raise TypeError("no list of options")
    return Question(stem, tuple(options), answer, tuple(f"{stem} {option}" for option in options))


FORMS = (
    QuestionForm(("question", "answerKey"), ("choices",), _arc),
    QuestionForm(("ctx", "endings", "label"), (), _hellaswag),
    QuestionForm(("sentence", "option1", "option2", "answer"), (), _winogrande),
    QuestionForm(("question", "choices", "answer"), (), _listed),
)
