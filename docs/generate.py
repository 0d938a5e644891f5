"""Write the parts of ``docs/`` that follow from the code, and of the code that follow from it: ``make docs``.

A page is written by hand around blocks, ``<!-- begin NAME -->`` to ``<!-- end NAME -->``; this file fills the blocks
from the catalogue, the schemas, the verbs' own help and docstrings. The same code gives the same pages, whatever the
terminal and the environment. A test compares them with what is committed.
"""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
SOURCE = ROOT / "src" / "thalweg"
BLOCK = re.compile(r"(?P<begin><!-- begin (?P<name>[\w. -]+) -->\n).*?(?P<end><!-- end (?P=name) -->)", re.DOTALL)


def blocks() -> dict[str, str]:
    """Give what stands in every block, by name."""
    from thalweg.experiments import tables_of as declared

    survey = declared("survey")
    sites = ("state", "head", "block", "prompt")
    return {
        "rooms": rooms(),
        **{f"columns of {table}": columns_of(table) for table in (*survey.parts, *survey.wholes)},
        **{f"tables of {experiment}": tables_of(experiment) for experiment in folders() if experiment != "survey"},
        "fields of run.json": header_fields(),
        **{f"metrics by {site}": metrics_by(site) for site in sites},
        "claims": claims(),
        "conventions": conventions(),
        "help": command_line(),
        "data sets": data_sets(),
        "families": families(),
        "own experiment": own_experiment(),
        "measured parts": "\n\n".join(f"## {part}\n\n{measured_part(part)}" for part in measured_parts()),
        "measured peers": measured("peers"),
        "measured GPU": measured("gpu"),
    }


def filled(page: str, blocks: dict[str, str]) -> str:
    """Give a page with its blocks as they should be.

    Raises:
        KeyError: a block that nobody writes.
    """
    return BLOCK.sub(lambda found: f"{found['begin']}\n{blocks[found['name']].strip()}\n\n{found['end']}", page)


# rooms.md


def rooms() -> str:
    """The rows of the house, the question of each room, and its files in reading order."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    layers = next(one["layers"] for one in tools["importlinter"]["contracts"] if one["type"] == "layers")
    rows = [layer.replace("thalweg.", "").split(" | ") for layer in reversed(layers)]
    map_ = [(number, f"[{room}](#{room})", question(room)) for number, row in enumerate(rows, 1) for room in row]
    sections = [section(room) for row in rows for room in row]
    return "\n\n".join([table(("row", "room", "question it answers"), map_), *sections])


def section(room: str) -> str:
    """One room: what its docstring says, and its files."""
    folder = SOURCE / room
    if not folder.is_dir():
        return f"## {room}\n\n{question(room)}\n\n{link(SOURCE / f'{room}.py')}"
    files = [(link(path), first_paragraph(docstring(path))) for path in reading_order(folder)]
    return f"## {room}\n\n{about(folder)}\n\n{table(('file', 'what is in it'), files)}"


def question(room: str) -> str:
    """The first sentence or two of a room's docstring."""
    folder = SOURCE / room
    return first_paragraph(docstring(folder / "__init__.py" if folder.is_dir() else SOURCE / f"{room}.py"))


def about(folder: Path) -> str:
    """A room's docstring without its reading order, which the table of files gives."""
    paragraphs = re.sub(r"\s*\b[Ii]n reading order:", "", docstring(folder / "__init__.py")).split("\n\n")
    names_files = re.compile(r"`_\w+`|[Rr]eading order")
    return "\n\n".join(text for text in paragraphs if not names_files.search(text))


def reading_order(folder: Path) -> list[Path]:
    """A room's files as its docstring lists them; what it does not mention follows by name."""
    named = re.findall(r"`(_\w+)`", docstring(folder / "__init__.py"))
    files = [path for path in folder.glob("_*.py") if not path.name.startswith("__")]
    return sorted(files, key=lambda path: (named.index(path.stem) if path.stem in named else len(named), path.stem))


# run-directory.md


def columns_of(name: str) -> str:
    """The columns of one table of a survey."""
    from thalweg.experiments import tables_of as declared

    return column_rows(declared("survey")[name])


def column_rows(content: Any) -> str:
    """The columns of a table, as they are declared."""
    rows = [(f"`{column.name}`", str(column.dtype), column.unit, column.meaning) for column in content.columns]
    return table(("column", "type", "unit", "what"), rows)


def tables_of(name: str) -> str:
    """The columns of every table that a run holds in one folder."""
    from thalweg.experiments import tables_of as declared

    tables = declared(name)
    return "\n\n".join(
        f"### {name}/{title}\n\nOne row: {content.row}.\n\n{column_rows(content)}"
        for title, content in {**tables.parts, **tables.wholes}.items()
    )


def folders() -> list[str]:
    """What a run may hold, by the name of the folder, in the order of the experiments."""
    from thalweg.experiments import experiments

    return [name for experiment in experiments() for name in experiment.tables]


def header_fields() -> str:
    """The fields of run.json, by the docstrings of the models that write it."""
    from thalweg.store import Coverage, DataFacts, ModelFacts, PartCounts, RunHeader, Thresholds

    parts = {
        "`run.json`": (RunHeader,),
        "Each of `models`": (ModelFacts,),
        "Each of `coverage`": (Coverage, PartCounts),
    }
    tables = []
    for title, models in parts.items():
        said = {name: text for one in models for name, text in attributes(one.__doc__ or "").items()}
        tables.append(f"{title}:\n\n{table(('field', 'what'), [(f'`{name}`', text) for name, text in said.items()])}")
    others = [
        f"{title}: {', '.join(f'`{name}`' for name in model.model_fields)}."
        for title, model in {"Each of `data`": DataFacts, "`thresholds`": Thresholds}.items()
    ]
    return "\n\n".join([*tables, *others])


# metrics.md


class Formula(NamedTuple):
    """Where a formula is and what its docstring says: as a whole, and of each field of a result that has several."""

    file: Path
    summary: str
    fields: dict[str, str]


def metrics_by(site: str) -> str:
    """The catalogue's rows of one site."""
    from thalweg.catalogue import METRICS

    found = formulas()
    rows = []
    for row in (row for row in METRICS if row.site == site):
        formula = found[row.function.rpartition(".")[2]]
        said = formula.fields.get(row.field or "", formula.summary).partition(" Example:")[0].rstrip(".")
        name = f"`{row.name}`" + (" (`--variants`)" if row.variant else "")
        rows.append((name, row.title, row.unit, row.range, said, link(formula.file), row.reads_as))
    return table(("name", "what", "unit", "range", "formula", "file", "reads as"), rows)


def formulas() -> dict[str, Formula]:
    """Every public function of the rooms with formulas, by name."""
    found = dict[str, Formula]()
    for path in sorted(path for room in ("metrics", "averages") for path in (SOURCE / room).glob("_*.py")):
        nodes = ast.parse(path.read_text(encoding="utf-8")).body
        results = {node.name: ast.get_docstring(node) or "" for node in nodes if isinstance(node, ast.ClassDef)}
        for node in nodes:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                returned = node.returns.id if isinstance(node.returns, ast.Name) else ""
                summary = first_paragraph(markdown(ast.get_docstring(node) or ""))
                found[node.name] = Formula(path, summary, attributes(results.get(returned, "")))
    return found


def conventions() -> str:
    """What every file of formulas says at its head."""
    from thalweg.catalogue import METRICS

    found = formulas()
    functions = [row.function.rpartition(".")[2] for row in METRICS] + ["profile", "phases", "coupling"]
    files = dict.fromkeys(found[name].file for name in functions)
    return "\n\n".join(f"### {path.stem.removeprefix('_')}\n\n{docstring(path)}" for path in files)


# cli.md


def command_line() -> str:
    """The help of thalweg and of every verb, as a terminal shows it."""
    from thalweg.cli._verbs import verbs

    titles = {"thalweg": (), **{f"thalweg {verb.name}": (verb.name,) for verb in verbs()}}
    return "\n\n".join(f"## {title}\n\n```text\n{help_text(*verb)}\n```" for title, verb in titles.items())


def help_text(*verb: str) -> str:
    """What ``thalweg VERB --help`` prints, 100 columns wide and without colours, whatever the environment."""
    clean = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "PYTHONPATH") if name in os.environ}
    clean |= {"COLUMNS": "100", "LINES": "50", "NO_COLOR": "1", "PYTHONUTF8": "1"}
    started = "import sys; sys.argv[0] = 'thalweg'; from thalweg.cli import main; main()"
    command = [sys.executable, "-c", started, *verb, "--help"]
    shown = subprocess.run(command, env=clean, capture_output=True, encoding="utf-8", check=True).stdout
    return "\n".join(line.rstrip() for line in shown.strip().splitlines())


# data.md and models.md


def claims() -> str:
    """What the paper says of each phase, as it is checked."""
    from thalweg.averages import CLAIMS

    rows = [
        (
            claim.phase,
            claim.name,
            f"`{claim.metric}`",
            {"value": "mean", "recovered": "share of the drop from mix that is recovered"}.get(
                claim.form, f"{claim.form} to {claim.against}"
            ),
            f"{claim.side} {claim.bound:.3g}",
        )
        for claim in CLAIMS
    ]
    return table(("phase", "claim", "of", "what is compared", "with"), rows)


def data_sets() -> str:
    """The short names of data sets."""
    from thalweg.prompts import list_data, list_labelled_data

    rows = [
        (
            f"`{one.name}`",
            one.hub_id or "comes with thalweg",
            ", ".join(one.configs) or (f"folder {one.data_dir}" if one.data_dir else ""),
            one.split if one.hub_id else "",
            " + ".join(one.fields),
            "gated" if one.gated else "open",
            one.note,
        )
        for one in list_data()
    ]
    rows += [
        (
            f"`{one.name}`",
            one.hub_id,
            ", ".join(one.configs),
            " / ".join(split for split in (one.train, one.validation, one.test) if split),
            " -> ".join(one.fields) if one.fields else "question with options",
            "open",
            f"labelled, for `probe`: {one.note}",
        )
        for one in list_labelled_data()
    ]
    return table(("name", "hub id", "config", "split", "fields", "access", "note"), rows)


def families() -> str:
    """The families that the tests prove, and how their attention is seen."""
    from thalweg.capture import PROVED

    rows = [(f"`{family}`", path) for family, path in sorted(PROVED.items())]
    return table(("family (`model_type`)", "attention seen through"), rows)


# own-experiment.md


def own_experiment() -> str:
    """The worked example, as it is tested."""
    code = (ROOT / "examples" / "row_spread" / "__init__.py").read_text(encoding="utf-8")
    return f"```python\n{code.strip()}\n```"


# benchmarks.md


def measured_parts() -> Sequence[str]:
    """The parts of ``make bench``."""
    sys.path.append(str(ROOT))
    from benchmarks import PARTS

    return PARTS


def measured_part(part: str) -> str:
    """What a part of ``make bench`` compares, and what was measured last."""
    return f"{docstring(ROOT / 'benchmarks' / f'{part}.py')}\n\n{measured(part)}"


def measured(name: str) -> str:
    """Where and when a file's tables were measured, and the tables."""
    path = DOCS / "benchmarks" / f"{name}.json"
    if not path.is_file():
        return "Not measured yet."
    known = json.loads(path.read_text(encoding="utf-8"))
    tables = known.pop("tables")
    facts = ". ".join(f"{fact[0].upper()}{fact[1:]}: {value}" for fact, value in known.items())
    return "\n\n".join(
        [f"{facts}.", *(f"**{one['title']}**\n\n{table(one['columns'], one['rows'])}" for one in tables)]
    )


# src/thalweg/experiments/_keywords.py

KEYWORDS = SOURCE / "experiments" / "_keywords.py"


def keywords() -> str:
    """The fields of options as keywords, which type checkers cannot make from a dataclass."""
    from thalweg.experiments import Recipe, SurveyOptions

    kinds = [kind for kind in reversed(SurveyOptions.__mro__) if kind is not object]
    classes = [keywords_of(kind) for kind in (*kinds, Recipe)]
    head = """The options as keywords, for type checkers: written from them by docs/generate.py, run `make docs`."""
    imports = "from collections.abc import Mapping\nfrom typing import Any, Literal, TypedDict"
    return "\n\n\n".join([f'"""{head}"""\n\n{imports}', *classes]) + "\n"


def keywords_of(options: type) -> str:
    """One class of options as a TypedDict."""
    above = [named(kind) for kind in options.__bases__ if kind is not object]
    own = inspect.get_annotations(options)
    hints = {name: hint for name, hint in get_type_hints(options).items() if name in own}
    written = {name: hint.__name__ if isinstance(hint, type) else str(hint) for name, hint in hints.items()}
    lines = [f"    {name}: {re.sub('typing[.]|collections[.]abc[.]', '', hint)}" for name, hint in written.items()]
    begun = f"class {named(options)}({', '.join([*(above or ['TypedDict']), 'total=False'])}):"
    said = f'    """Keywords of ``{options.__name__}``."""'
    return "\n".join([begun, said, *([""] if lines else []), *lines]).replace("'", '"')


def named(options: type) -> str:
    """What a class of options is called as keywords."""
    return f"{options.__name__.removesuffix('Options')}Keywords"


# Python to Markdown


def docstring(path: Path) -> str:
    """A file's docstring as Markdown."""
    return markdown(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")


def markdown(text: str) -> str:
    """Roles, cross references and doubled backticks as plain code."""
    return re.sub(r":\w+:`[.~]*([^`]+)`", r"`\1`", text).replace("``", "`")


def first_paragraph(text: str) -> str:
    """The first paragraph on one line."""
    return " ".join(text.split("\n\n")[0].split())


def attributes(text: str) -> dict[str, str]:
    """The ``Attributes:`` of a class docstring, by name."""
    found = dict[str, str]()
    for line in text.partition("Attributes:\n")[2].split("\n\n")[0].splitlines():
        if match := re.match(r"\s*(\w+): (.*)", line):
            found[match[1]] = match[2]
        elif found and line.strip():
            found[list(found)[-1]] += f" {line.strip()}"
    return {name: markdown(said).rstrip(".") for name, said in found.items()}


def link(path: Path) -> str:
    """A link to a file of the repository, from docs/."""
    return f"[`{path.name}`](../{path.relative_to(ROOT).as_posix()})"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; what Markdown would take for its own is shown as it is."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell(str(value)) for value in line)} |" for line in lines)


def cell(text: str) -> str:
    """Text for one cell."""
    return text.replace("|", r"\|").replace("<", "&lt;").replace(" * ", r" \* ")


def main() -> None:
    """Fill the blocks of every page, and write what type checkers read."""
    written = blocks()
    KEYWORDS.write_text(keywords(), encoding="utf-8", newline="\n")
    for page in sorted(DOCS.glob("*.md")):
        page.write_text(filled(page.read_text(encoding="utf-8"), written), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
