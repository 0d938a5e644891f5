"""How an experiment is called from Python: options as plain keywords, mistakes in a line, models left as they were."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from thalweg import ranks
from thalweg.errors import UsageError
from thalweg.experiments._options import PassOptions
from thalweg.validated import did_you_mean

Asked = ParamSpec("Asked")
Result = TypeVar("Result")
NUMBERS: dict[Any, type] = {int: Integral, float: Real}
WORDS: dict[Any, str] = {
    Integral: "a whole number",
    Real: "a number",
    bool: "True or False",
    str: "a text",
    Path: "a path",
    Sequence: "a list",
    NoneType: "None",
    PassOptions: "thalweg.SurveyOptions(limit=..., ...)",
}


def takes_options(function: Callable[Asked, Result]) -> Callable[Asked, Result]:
    """Let an experiment take the fields of its options as keywords, and refuse in a line what it cannot take.

    Type checkers and editors know the keywords by ``**_: Unpack[PromptKeywords]`` in its signature; the function never
    sees them, they arrive in ``options``. A loaded model, its first argument, is left as it was.

    Args:
        function: an experiment's, with ``options`` of its own kind.

    Example:
        >>> @takes_options
        ... def halved(model: str, *, options: PassOptions | None = None) -> int:
        ...     return (options or PassOptions()).shard_rows // 2
        >>> halved("reference", shard_rows=10)
        5
    """
    name, hints, signature = function.__name__, get_type_hints(function), inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    own = {each.name: _classes(hints[each.name]) for each in parameters}
    objects: dict[str, Any] = {each: kind for each in own for kind in _kinds(hints[each]) if is_dataclass(kind)}
    keywords = {field.name: place for place, kind in objects.items() for field in fields(kind) if field.name not in own}

    @wraps(function)
    def called(*given: Any, **named: Any) -> Result:
        for unknown in (each for each in named if each not in own and each not in keywords):
            raise UsageError(f"{name} has no option {unknown}{did_you_mean(unknown, [*own, *keywords])}")
        plain = {each: named.pop(each) for each in keywords if each in named}
        bound = _bound(name, signature, given, named)
        for each, value in bound.arguments.items():
            if not _is_one_of(own[each], value):
                words = " or ".join(WORDS.get(kind, kind.__name__) for kind in own[each])
                raise UsageError(f"{each}: {name} expected {words}; got {value!r:.60}.")
        for place, kind in objects.items():
            if asked := {each: value for each, value in plain.items() if keywords[each] == place}:
                before: Any = bound.arguments.get(place)
                bound.arguments[place] = kind(**asked) if before is None else replace(before, **asked)
        models = _loaded(bound.arguments.get(parameters[0].name))
        if any((getattr(model, "_tp_size", None) or 1) > 1 for model in models):
            ranks.join()
        ranks.refuse(name)
        with ExitStack() as stack:
            for model in models:
                from thalweg.capture import untouched

                stack.enter_context(untouched(model))
            return function(*bound.args, **bound.kwargs)

    plainly = [each.replace(annotation=hints[each.name]) for each in parameters]
    for place, kind in objects.items():
        types = get_type_hints(kind)
        plainly += [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
            )
            for field in fields(kind)
            if keywords.get(field.name) == place
        ]
    vars(called)["__signature__"] = signature.replace(parameters=plainly)
    return called


def _bound(name: str, signature: inspect.Signature, given: Sequence[Any], named: Any) -> inspect.BoundArguments:
    try:
        return signature.bind(*given, **named)
    except TypeError as error:
        said = f"{name}: {error}; see help(thalweg.{name})."
    raise UsageError(said)


def _kinds(hint: Any) -> Iterator[Any]:
    """The classes, or what else, that a type is made of."""
    if get_origin(hint) is Annotated:
        yield from _kinds(get_args(hint)[0])
    elif get_origin(hint) in (Union, UnionType):
        for part in get_args(hint):
            yield from _kinds(part)
    else:
        yield get_origin(hint) or hint


def _classes(hint: Any) -> tuple[type, ...]:
    """What a value may be an instance of; anything, where a type says more than classes can."""
    kinds: list[Any] = [NUMBERS.get(kind, kind) for kind in _kinds(hint)]
    if not all(isinstance(kind, type) and not getattr(kind, "_is_protocol", False) for kind in kinds):
        return (object,)
    return tuple(PassOptions if issubclass(kind, PassOptions) else kind for kind in kinds)


def _is_one_of(classes: tuple[type, ...], value: object) -> bool:
    """A text is a sequence, too, of letters that nobody means."""
    return isinstance(value, classes) and not (isinstance(value, str) and {str, object}.isdisjoint(classes))


def _loaded(given: Any) -> list[Any]:
    """The models in a first argument that are no names."""
    each = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    return [model for model in each if model is not None and not isinstance(model, str | Path)]
