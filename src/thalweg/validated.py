"""Options that a person gives, checked by pydantic, their mistakes told in our manner: one line, exit code 2.

A field says what it takes as a type and constraints, and in `Says` the line for what it does not take::

    @validated
    class Recipe:
        epochs: Annotated[int, Field(ge=1), Says("--epochs must be a whole number of at least 1; got {got}.")] = 1

No value is converted but whole numbers where a float is asked for. What several fields have to fulfil together is
checked in ``__post_init__``, which comes after the fields.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, TypeVar, dataclass_transform, get_args

from pydantic import AfterValidator, ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as checked

from thalweg.errors import UsageError

__all__ = ["Says", "did_you_mean", "line_of", "meets", "validated"]

Options = TypeVar("Options")
TEXTS = ("literal_error", "value_error")
"""What is wrong with a text where a text is taken."""


@dataclass(frozen=True)
class Says:
    """What a person is told of a value that a field does not take.

    Attributes:
        line: the whole line; ``{got}`` stands for the value, ``{got!r}`` for a text in quotes. A text where none is
            taken is in quotes anyway.
    """

    line: str


def meets(condition: Callable[[Any], bool], /) -> AfterValidator:
    """A constraint that pydantic has no name for.

    Args:
        condition: whether a value is taken.
    """

    def check(value: Any) -> Any:
        if not condition(value):
            raise ValueError("not taken")
        return value

    return AfterValidator(check)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def validated(options: type[Options]) -> type[Options]:
    """A frozen dataclass whose fields are checked.

    Args:
        options: a class with annotated fields.

    Raises:
        UsageError: from its constructor, for a value that a field does not take, and a field that there is not.
    """
    made: Any = checked(frozen=True, config=ConfigDict(strict=True, extra="forbid"))(options)
    check = made.__init__

    def told(self: Options, *values: Any, **named: Any) -> None:
        try:
            check(self, *values, **named)
        except ValidationError as error:
            mistake = _mistake(made, error)
        else:
            return
        raise mistake

    told.__annotations__ = {known.name: known.type for known in fields(made)}
    parameters = inspect.signature(made).parameters.values()
    of_self = next(iter(inspect.signature(told).parameters.values()))
    vars(told)["__signature__"] = inspect.Signature([of_self, *parameters])
    made.__init__ = told
    del made.__pydantic_core_schema__  # the command line takes what has one for a model, and would check it its own way
    return made


def line_of(annotation: Any, got: object) -> str | None:
    """Give what a person is told of a value that a field of this annotation does not take, where it says so."""
    says = next((said for said in get_args(annotation) if isinstance(said, Says)), None)
    return None if says is None else says.line.format(got=got)


def did_you_mean(given: str, known: Sequence[str]) -> str:
    """Give the end of a sentence about a name that is not known: the nearest one, if there is one."""
    nearest = get_close_matches(given, known, n=1)
    return f". Did you mean {nearest[0]}?" if nearest else f"; it has {', '.join(known)}."


def _mistake(options: type[Any], error: ValidationError) -> UsageError:
    """The first one, in our words."""
    first, names = error.errors()[0], [known.name for known in fields(options)]
    place, got = first["loc"][0], first["input"]
    name = str(place) if isinstance(place, str) else (*names, "at all")[min(place, len(names))]
    known = options.__pydantic_fields__.get(name)
    if known is None:
        return UsageError(f"{options.__name__} has no option {name}{did_you_mean(name, names)}")
    says = next((said for said in known.metadata if isinstance(said, Says)), None)
    if says is None:
        said = first["msg"].removeprefix("Input should be ")
        return UsageError(f"--{name.replace('_', '-')} must be {said}; got {got!r:.60}.")
    if isinstance(got, float):
        got = f"{got:g}"
    elif isinstance(got, str) and first["type"] not in TEXTS:
        got = repr(got)
    return UsageError(says.line.format(got=got))
