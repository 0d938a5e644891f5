"""A library function as a command: its first parameter is an argument, the others are options, by the same names."""

import inspect
from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from cyclopts import Parameter

from thalweg.cli._print import show
from thalweg.cli._verbs import Verb

AS_JSON = inspect.Parameter(
    "as_json",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, Parameter(name="--json", help="print the result as JSON.", show_default=False)],
)


def command_of(verb: Verb) -> Callable[..., int]:
    """Give what the parser calls: the verb's function, with what came of it printed; it returns the exit code."""

    def command(*given: Any, as_json: bool = False, **asked: Any) -> int:
        names = inspect.signature(verb.function).parameters
        result = verb.function(*given, **asked)
        return show(verb.told(result, {**dict(zip(names, given, strict=False)), **asked}), as_json=as_json)

    parameters = _parameters(verb)
    command.__name__, command.__doc__ = verb.name, verb.function.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    vars(command)["__signature__"] = inspect.Signature(parameters)
    return command


def _parameters(verb: Verb) -> list[inspect.Parameter]:
    hints = get_type_hints(verb.function, include_extras=True)
    first, *others = inspect.signature(verb.function).parameters.values()
    kinds = [(first, inspect.Parameter.POSITIONAL_ONLY), *((other, inspect.Parameter.KEYWORD_ONLY) for other in others)]
    parameters = [_asked(parameter.replace(kind=kind), typed(hints[parameter.name])) for parameter, kind in kinds]
    return [*parameters, AS_JSON] if verb.as_json else parameters


def _asked(parameter: inspect.Parameter, hint: Any) -> inspect.Parameter:
    """With its type; what Python has as one name by default is shown, since a list has none that the parser takes."""
    base = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    default = parameter.default
    if list[str] not in (base, *get_args(base)) or default in (None, inspect.Parameter.empty):
        return parameter.replace(annotation=hint)
    shown = Parameter(show_default=default if isinstance(default, str) else ",".join(map(str, default)) or False)
    listed = [default] if isinstance(default, str) else [*map(str, default)]
    return parameter.replace(annotation=Annotated[hint, shown], default=listed)


def typed(hint: Any) -> Any:
    """Give the type of what is typed on a terminal where Python takes more: names, one name, or a number.

    Example:
        >>> typed(str | Sequence[str] | None)
        list[str] | None
        >>> typed(str | Sequence[int])
        <class 'str'>
    """
    if get_origin(hint) is Annotated:
        base, *notes = get_args(hint)
        return Annotated[(typed(base), *notes)]
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kind = list[str] if _takes_names(kinds) else next((simple for simple in (str, float) if simple in kinds), hint)
    return kind | None if kind is not hint and NoneType in kinds else kind


def _takes_names(kinds: Sequence[Any]) -> bool:
    elements = [element for kind in kinds if get_origin(kind) is Sequence for element in get_args(kind)]
    return any(element is str or str in get_args(element) for element in elements)
