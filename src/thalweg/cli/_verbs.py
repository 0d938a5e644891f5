"""What verbs there are, and how a library function is one: experiments, and what looks at a run or checks something."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from cyclopts import Parameter

from thalweg import ranks
from thalweg.advice import Advice, advise
from thalweg.checks import Verification, listing, verify
from thalweg.comparison import Comparison, compare
from thalweg.experiments import PARTLY, Outcome, experiments
from thalweg.figures import save_figures
from thalweg.holdings import Holdings, show
from thalweg.recipes import Reproduced, reproduce
from thalweg.report import write_report
from thalweg.shown import Table, print_json, print_sections, print_table, printable
from thalweg.store import open_run
from thalweg.tables import RunTable, table

GROUPS = ("Measure", "Intervene", "Downstream", "Look", "Check")


@dataclass(frozen=True)
class Verb:
    """One verb: as it is typed, what it calls, where the help lists it, and what is told, given what was asked for."""

    name: str
    function: Callable[..., Any]
    group: str
    told: Callable[[Any, Mapping[str, Any]], Outcome]
    as_json: bool = True


def verbs() -> list[Verb]:
    """Every verb, in the order of the help."""
    measuring = [Verb(known.verb, known.function, known.group, known.told) for known in experiments()]
    return sorted([*measuring, *LOOKING], key=lambda verb: GROUPS.index(verb.group))


def _advised(advice: list[Advice], asked: Mapping[str, Any]) -> Outcome:
    texts = ["\n".join(_lines(about)) for about in advice]
    run = open_run(asked["run"])
    return Outcome([asdict(about) for about in advice], run, lines="\n\n".join(texts).splitlines())


def _lines(advice: Advice) -> list[str]:
    return [
        f"{advice.model}: {advice.blocks} blocks; {advice.phases}",
        *(f"  {answer.question}: {answer.text}." for answer in advice.answers),
        *(f"  {missing.question}: {missing.reason}. Run: {missing.command}" for missing in advice.unanswered),
    ]


def _drawn(paths: Sequence[Path], _: Mapping[str, Any]) -> Outcome:
    remarks = [] if paths else ["nothing to draw yet: the run has no finished prompts."]
    return Outcome(None, lines=[str(path) for path in paths], remarks=remarks)


def _written(path: Path, _: Mapping[str, Any]) -> Outcome:
    return Outcome(None, lines=[str(path)])


def _tabled(result: RunTable | str | Path, asked: Mapping[str, Any]) -> Outcome:
    run, said = open_run(asked["run"]), str(result)
    return Outcome(None, run, lines=[said]) if isinstance(result, Path) else Outcome(None, run, text=said)


def _compared(comparison: Comparison, asked: Mapping[str, Any]) -> Outcome:
    tables = {name: getattr(comparison, name).to_dicts() for name in ("places", "heads")}
    return Outcome(
        {"answers": comparison.sentences, **tables},
        open_run(asked["run"]),
        comparison.sections,
        lines=[str(path) for path in comparison.figures],
    )


def _held(holdings: Holdings, _: Mapping[str, Any]) -> Outcome:
    return Outcome(asdict(holdings), tables=holdings.tables, lines=["", *holdings.lines], exit_code=holdings.exit_code)


def _verified(verification: Verification, _: Mapping[str, Any]) -> Outcome:
    checks = verification.checks
    rows = [(check.capability, check.name, "yes" if check.passed else "NO", check.detail) for check in checks]
    table = Table(verification.about, ("capability", "check", "holds", "figures"), rows)
    return Outcome([vars(check) for check in checks], tables=[table], exit_code=verification.exit_code)


def _listed(rows: list[dict[str, str]], _: Mapping[str, Any]) -> Outcome:
    return Outcome(rows, tables=[Table("", tuple(rows[0]), [tuple(row.values()) for row in rows])])


def _reproduced(done: Sequence[Reproduced], _: Mapping[str, Any]) -> Outcome:
    lines = [
        line
        for one in done
        for line in (f"Figure {one.figure}: {one.shows}", *(f"  {said}" for said in one.substituted), *_files(one))
    ]
    return Outcome(list(map(asdict, done)), lines=lines, exit_code=PARTLY if any(one.reason for one in done) else 0)


def _files(one: Reproduced) -> list[str]:
    return [f"  not drawn: {one.reason}"] if one.reason else [f"  {file}" for file in one.files]


LOOKING = (
    Verb("advise", advise, "Downstream", _advised),
    Verb("figures", save_figures, "Look", _drawn, as_json=False),
    Verb("reproduce", reproduce, "Look", _reproduced),
    Verb("report", write_report, "Look", _written, as_json=False),
    Verb("compare", compare, "Look", _compared),
    Verb("show", show, "Look", _held),
    Verb("table", table, "Look", _tabled, as_json=False),
    Verb("verify", verify, "Check", _verified),
    Verb("list", listing, "Check", _listed),
)


AS_JSON = inspect.Parameter(
    "as_json",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, Parameter(name="--json", help="print the result as JSON.", show_default=False)],
)


def command_of(verb: Verb) -> Callable[..., int]:
    """Give what the parser calls: the verb's function, with what came of it printed; it returns the exit code."""

    def command(*given: Any, as_json: bool = False, **asked: Any) -> int:
        ranks.refuse(verb.name)
        names = inspect.signature(verb.function).parameters
        if isinstance(data := asked.get("data"), list):
            asked["data"] = tuple(data)  # in Python a list holds texts
        result = verb.function(*given, **asked)
        return printed(verb.told(result, {**dict(zip(names, given, strict=False)), **asked}), as_json=as_json)

    parameters = _parameters(verb)
    command.__name__, command.__doc__ = verb.name, verb.function.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    vars(command)["__signature__"] = inspect.Signature(parameters)
    return command


def _parameters(verb: Verb) -> list[inspect.Parameter]:
    hints = get_type_hints(verb.function, include_extras=True)
    every = inspect.signature(inspect.unwrap(verb.function)).parameters.values()  # options as objects, not as keywords
    asked = [parameter for parameter in every if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    first, last = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.KEYWORD_ONLY
    kinds = [first if place == 0 or parameter.kind is first else last for place, parameter in enumerate(asked)]
    parameters = [
        _asked(parameter.replace(kind=kind), typed(hints[parameter.name]))
        for parameter, kind in zip(asked, kinds, strict=True)
    ]
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
    return any(element is str or (isinstance(element, UnionType) and str in get_args(element)) for element in elements)


def printed(outcome: Outcome, *, as_json: bool) -> int:
    """Print an outcome, data on stdout and remarks on stderr, and give its exit code."""
    if as_json:
        print_json(outcome.json)
    else:
        _show(outcome)
    for remark in outcome.remarks:
        _remark(remark)
    return outcome.exit_code


def _show(outcome: Outcome) -> None:
    print_sections(outcome.sections)
    for content in outcome.tables:
        print_table(content.columns, content.rows, title=content.title or None)
    models = outcome.run.header.models if outcome.run else ()
    for name, how in {model.name: model.planted for model in models if model.planted}.items():
        _remark(f"{name} is a test model: {how}.")  # before its numbers are believed
    sys.stdout.write("\n".join(map(printable, outcome.text.split("\n"))) if sys.stdout.isatty() else outcome.text)
    for line in outcome.lines:
        sys.stdout.write(f"{printable(line)}\n")


def _remark(line: str) -> None:
    sys.stderr.write(f"{printable(line)}\n")
