"""Options that pydantic checks: what is wrong is one line of ours, and nothing is converted on the way."""

import copy
import math
import pickle
from dataclasses import FrozenInstanceError, field, fields, replace
from typing import Annotated, Literal

import pytest
from pydantic import Field

from thalweg.errors import UsageError
from thalweg.validated import Says, meets, validated


@validated
class Asked:
    kind: Annotated[Literal["one", "many"], Says("--kind is one or many; got {got}.")] = "one"
    share: Annotated[float | None, Field(gt=0, lt=1), Says("--share is above 0 and below 1; got {got}.")] = None
    count: Annotated[int, Field(ge=1), Says("--count is at least 1; got {got}.")] = 1
    even: Annotated[int, meets(lambda number: number % 2 == 0), Says("--even {got} is odd.")] = 2
    names: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.kind == "one" and self.count > 1:
            raise UsageError("one of them cannot be counted.")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "few"}, "--kind is one or many; got few."),
        ({"share": 1.0}, "--share is above 0 and below 1; got 1."),
        ({"share": math.nan}, "--share is above 0 and below 1; got nan."),
        ({"share": "half"}, "--share is above 0 and below 1; got 'half'."),
        ({"count": 0}, "--count is at least 1; got 0."),
        ({"count": True}, "--count is at least 1; got True."),
        ({"count": 1.0}, "--count is at least 1; got 1."),
        ({"even": 3}, "--even 3 is odd."),
        ({"count": 2}, "one of them cannot be counted."),
    ],
)
def test_a_mistake_is_one_line_of_ours_without_pydantics(wrong, said):
    with pytest.raises(UsageError) as left:
        Asked(**wrong)
    assert str(left.value) == said
    assert left.value.__cause__ is left.value.__context__ is None


def test_a_value_given_by_its_place_is_told_by_its_name():
    with pytest.raises(UsageError, match="--share"):
        Asked("many", 2.0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"counts": 1}, "Asked has no option counts. Did you mean count?"),
        ({"whatever": 1}, "Asked has no option whatever; it has kind, share, count, even, names."),
        ({"names": ["a"]}, "--names must be a valid tuple; got ['a']."),
    ],
)
def test_what_no_field_speaks_for_is_a_line_too(wrong, said):
    with pytest.raises(UsageError) as left:
        Asked(**wrong)
    assert str(left.value) == said
    with pytest.raises(UsageError, match="Asked has no option at all; it has kind"):
        Asked("many", 0.5, 1, 2, (), "more")


def test_it_is_a_frozen_dataclass_like_any_other():
    asked = Asked("many", 0.5, count=3)
    assert [one.name for one in fields(asked)] == list(vars(asked)) == ["kind", "share", "count", "even", "names"]
    assert replace(asked, count=4) == Asked("many", 0.5, 4)
    assert copy.deepcopy(asked) == pickle.loads(pickle.dumps(asked)) == asked
    assert hash(asked) == hash(Asked("many", 0.5, 3))
    with pytest.raises(FrozenInstanceError):
        asked.count = 5
    with pytest.raises(UsageError, match="--count"):
        replace(asked, count=0)
