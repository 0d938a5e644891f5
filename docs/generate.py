"""Write the parts of ``docs/`` that follow from the code: ``make docs``.

A page is written by hand around blocks, ``<!-- begin NAME -->`` to ``<!-- end NAME -->``; this file fills the blocks
from the catalogue, the schemas, the verbs' own help and docstrings. The same code gives the same pages, whatever the
terminal and the environment. A test compares them with what is committed.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
SOURCE = ROOT / "src" / "thalweg"
BLOCK = re.compile(r"(?P<begin><!-- begin (?P<name>[\w. -]+) -->\n).*?(?P<end><!-- end (?P=name) -->)", re.DOTALL)

COLUMNS = {
    "model": "hub id or directory, as given",
    "revision": "as asked for; `main` for the hub's default, `local` for a directory",
    "data": "name of the data set: short name, hub name, or the file's name",
    "prompt": "0-based row number in the data as read",
    "state": "0..L",
    "tokens": "T, the number of real tokens",
    "block": "0..L-1",
    "head": "query head, from 0",
    "reason": "why numbers of this row are undefined, or what is missing; null where there is nothing to say",
    "kind": "`entry` or `row`",
    "position": "which token, from 0",
    "token_id": "its id",
    "token": "its text",
    "dim": "dimension of a massive entry, or one that is written to; null for a row",
    "value": "the massive entry, or what is written there, with its sign; null for a row",
    "row_norm": "norm of the row",
    "first_token": "id of token 0",
    "truncated": "whether tokens were cut off at the end",
    "sha256": "hash of the text's UTF-8 bytes",
    "text": "the text itself; only with `--keep-text`",
    "site": "`state` or `block`",
    "index": "number of the state or block",
    "phase": "mix, compress or refine; null without a compress phase; a block has the phase of the state it reads",
    "metric": "a column of `layers` or `heads`, or a rate by block",
    "mean": "over prompts, values that are not finite left out; where `geometric`, averaged as a logarithm",
    "std": "standard deviation over prompts (ddof 1); where `geometric`, that of the logarithm",
    "low": "lower end of the 95% t interval of the mean",
    "high": "upper end of it",
    "n": "prompts that entered",
    "geometric": "whether averages are of logarithms, as for ratios",
    "states": "L, the number of the last state",
    "blocks": "blocks with softmax attention",
    "prompts": "prompts measured",
    "massive_share_threshold": "share of prompts from which a state is massive for the model",
    "has_massive_activations": "whether any state is",
    "compress_first": "a; null if no state is massive",
    "compress_last": "b; null if no state is massive",
    "compress_first_depth": "a as a share of L",
    "compress_last_depth": "b as a share of L",
    "has_refine": "whether b < L",
    "dips": "states between a and b that are not massive",
    "agreement": "share of prompts whose own first massive state is a",
    "rise_state": "state with the largest rise of ln `norm_ratio` from the state before",
    "fall_state": "state with the largest fall of it",
    "rest_norm_rise_state": "first state, after the least `rest_norm` of the compress phase, where it has doubled",
    "part": "`embedding`, `attention` or `mlp`; an embedding has no block",
    "norm": "norm of what the part adds to the sink token's row",
    "along": "component along v, the direction of the sink token's row at the reference state: of what is added, or of "
    "the row itself",
    "share": "`along` over the norm of the row at the reference state",
    "cosine": "`along` over `norm`",
    "before": "whether the part comes before the reference state; the shares of those that do sum to 1",
    "reference_state": "state of the largest `norm_ratio`; of averages, that of most prompts",
    "reference_agreement": "share of prompts with that reference state",
    "sink_ratio": "norm of the sink token's row over the median row norm",
    "sum_error": "distance of the sink token's row from the embedding and all that was added, over the largest norm on "
    "the way",
    "rank": "0 for the dimension in which the part writes most, and so on",
    "writes": "whether it is the MLP of one of the writing blocks",
    "dims": "dimensions that each hold at least 1% of the squared norm of what is added, on average, largest first",
    "writing_blocks": "smallest set of blocks whose MLPs write the threshold of the massive row; empty with a reason",
    "writing_share": "share of the massive row that their MLPs write; without a set, that of all MLPs that raise it",
    "writing_threshold": "share that the set has to reach",
    "writing_agreement": "share of prompts whose own smallest set is this one",
    "massive_prompts": "prompts whose sink token's row is massive at some state",
    "by": "metric of heads that prompts are ranked by",
    "length": "tokens that every compared prompt has; null where lengths differ",
    "per_side": "prompts in the top, and as many in the bottom",
    "other_length": "prompts left out because they have another length",
    "undefined": "prompts left out because a head's value is undefined",
    "heads": "heads that take part in the ranking",
    "changed": "heads that change in what prompts are ranked by",
    "permutations": "random pairs of sets that p stands on",
    "exact": "whether these are all there are",
    "least_p": "the smallest p that they can give",
    "fdr": "false-discovery rate allowed",
    "side": "`top` or `bottom`",
    "score": "mean of `by` over all heads",
    "top": "mean over the prompts that rank top without this head",
    "bottom": "mean over the prompts that rank bottom without this head",
    "p": "chance of a difference of this magnitude if the ranking means nothing to the head",
    "q": "least false-discovery rate at which the head counts as changed (Benjamini and Hochberg)",
    "changes": "whether `q` is at most `fdr`",
    "overall_top": "mean over the prompts that rank top by all heads",
    "overall_bottom": "mean over the prompts that rank bottom by all heads",
    "overall_difference": "their difference: what the maps show",
    "sun_prompt_share": "share of prompts with a massive entry in some state (Sun et al. 2024)",
    "coupling_entropy": "Pearson r of the changes of `sink_norm` and `entropy`, state by state",
    "coupling_sink": "Pearson r of the changes of `sink_norm` at a state and of `sink_rate` at the block that reads it",
    "coupling_sink_next": "the same with the block after that one",
    "condition": "`intact`, the blocks that were ablated, or a control",
    "seed": "draw of a random control; null where nothing is drawn",
    "control": "`negative` if it must leave compression and sinks, `positive` if it must remove them, else null",
    "phenomenon": "`compression` or `sinks`; over training `massive activations`, `sinks` or `valley`",
    "verdict": "`removed`, `reduced`, `increased` or `unchanged`; null where it cannot be said",
    "intact": "mean over prompts of the model as it is",
    "ablated": "mean over the same prompts under the condition",
    "clipped": "mean over the same prompts, clipped",
    "difference": "mean of the paired differences, changed minus intact; where `geometric`, of the factor between them",
    "loss": "mean next-token cross entropy of the prompt, in nats",
    "loss_intact": "mean loss of the model as it is, in nats a token",
    "loss_ablated": "the same under the condition",
    "loss_change": "mean of the paired differences of the loss",
    "loss_low": "lower end of its 95% interval",
    "loss_high": "upper end of it",
    "massive_states": "states that are massive for at least half of the prompts under the condition",
    "massive_position": "where the largest row of those states is most often",
    "massive_position_share": "share of prompts with the largest row there",
    "replacement": "whether another massive row took the place of the removed one, in words; null if none did",
    "scored": "tokens that entered: those that have a token before them",
    "loss_sum": "sum over them of the cross entropy, nats",
    "output_entropy_sum": "sum of the entropy of the predicted distribution, nats",
    "agreement_sum": "how many have the last state's most probable token",
    "kl_sum": "sum of KL(last || state), nats",
    "kl": "KL(last || state) of the tokens of a step, before it; nats",
    "gamma": "largest magnitude that coordinates of the sink token's row may have",
    "gammas": "every gamma of the sweep, smallest first",
    "peak": "largest magnitude of the massive coordinates; NaN without",
    "ordinary": "largest magnitude of any other coordinate",
    "parameters": "numbers in the weights of the model",
    "step": "optimizer step that the revision's name says; null where it says none",
    "order": "place of the checkpoint in the training, from 0",
    "threshold": "value from which the phenomenon is there",
    "definition": "the same in words",
    **{
        f"{name}_{end}": f"{said} of `{name}`"
        for name in ("intact", "ablated", "clipped")
        for end, said in {
            "std": "standard deviation over prompts",
            "low": "lower end of the 95% interval",
            "high": "upper end of the 95% interval",
        }.items()
    },
    **{
        f"{phase}_{metric}": f"mean `{metric}` inside the {phase} phase; NaN if there is none"
        for phase in ("mix", "compress", "refine")
        for metric in ("mixing", "sink_rate", "entropy_normalized")
    },
    **{
        f"coupling_{name}_std": "standard deviation over models; NaN but in the row `all models`"
        for name in ("entropy", "sink", "sink_next")
    },
}
"""What columns hold that are no metric; metrics are described by the catalogue."""

OWN = {
    "ablation": {
        "blocks": "blocks whose MLPs add nothing to the sink token's row, such as `0,5-7`; empty for none",
        "dims": "massive coordinates that a control empties",
        "low": "lower end of the 95% interval of `difference`",
        "high": "upper end of it",
        "site": "`state`, `block` or `prompt`; `compress` or `depth` for a mean over states or blocks",
        "index": "number of the state or block, null for a prompt or a mean over depth",
        "metric": "what is compared",
    },
    "checkpoints": {
        "metric": "what is looked at: an extreme over states 1..L or over blocks, or a value at state 1",
        "index": "state or block where it is reached",
        "value": "mean over prompts there; NaN where it is undefined",
        "revision": "checkpoint; in `emergence` the first from which the phenomenon stays to the last, null if none",
        "reason": "why it never emerges, or what to know about it; null where there is nothing to say",
    },
    "clip": {
        "dims": "the massive coordinates",
        "low": "lower end of the 95% interval of `difference`",
        "high": "upper end of it",
        "site": "`state`, `block` or `prompt`; `compress` or `depth` for a mean over states or blocks",
        "index": "number of the state or block, null for a prompt or a mean over depth",
        "metric": "what is compared",
    },
    "contrast": {"difference": "`top` - `bottom`"},
    "lens": {
        "prompt": "0-based row number in the data as read, or number of the block",
        "metric": "`loss`, `perplexity`, `output_entropy`, `agreement` or `kl`",
        "value": "average over tokens, sum over sum; the perplexity is exp(loss)",
        "low": "lower end of the 95% interval, over prompts or blocks",
        "high": "upper end of it",
        "n": "prompts or blocks that entered; one with a sum that is not finite is left out",
    },
    "mcq": {
        "lens": "`logit` or `tuned`",
        "task": "name of the task, or of a group of tasks",
        "group": "whether it is lm-eval's own average over a group of tasks",
        "shots": "solved examples before each question",
        "metric": "as lm-eval calls it, such as `acc` or `acc_norm`; with a filter as `acc,filter`",
        "value": "the score, as lm-eval computes it; NaN with a reason where a log-likelihood is NaN",
        "stderr": "its standard error, as lm-eval computes it; NaN where it gives none",
        "n": "questions",
        "chance": "expected of guessing, mean of 1 / number of options; NaN where the metric is no accuracy or where "
        "not just one option is right",
        "truncated": "requests whose context was cut at the left",
        "version": "of the task, as lm-eval has it",
        "reason": "why there is no value; null where there is one",
    },
    "tuned_lens": {"step": "of the optimiser, from 0", "state": "whose translator it is, 0..L-1"},
    "mteb": {
        "task": "mteb's name of the task",
        "type": "mteb's word for its kind, such as STS; in `means` `all` for every task",
        "metric": "the task's main score",
        "split": "of the task's data",
        "subset": "of the task's data, such as a language",
        "score": "main score; NaN where it is undefined; in `tasks` the mean over splits and subsets",
        "data_revision": "of the task's data on the hub",
        "mean": "of the scores over tasks, each counting once; a score that is undefined is left out",
        "std": "standard deviation over tasks (ddof 1)",
        "low": "lower end of the 95% t interval over tasks; NaN for one task",
        "n": "tasks that entered",
        "behind": "mean over tasks of the best state's score minus this state's",
        "behind_low": "lower end of its 95% t interval, task by task; NaN for one task",
        "behind_high": "upper end of it",
        "best": "whether the state has the largest mean among those with most tasks",
        "tied": "whether `behind_low` is at most 0: the tasks do not tell the state from the best; null where there is "
        "no interval and the scores differ",
        "reason": "why there is no score; null where there is one",
    },
    "probe": {
        "split": "`train`, `validation` or `test`",
        "source": "what the split was read from, or a share of what",
        "rows": "rows of the data that were read for it",
        "examples": "texts with a class and with tokens; of pairs one for each option",
        "questions": "questions among them; null where rows are no questions",
        "skipped": "rows that gave no example, by reason",
        "classes": "how many classes there are",
        "chance": "accuracy of guessing: 1 over the classes, or the mean of 1 over the options of each question",
        "majority": "accuracy of always giving the most frequent class of the training split; NaN for pairs",
        "accuracy": "share of right answers; NaN where a feature of the state is not finite",
        "low": "lower end of Wilson's 95% interval of `accuracy`",
        "high": "upper end of it",
        "n": "answers: examples, or questions where they are read in pairs",
        "loss": "mean cross entropy of the classifier over the examples, in nats",
        "converged": "whether scikit-learn's fit of this state converged; null for a layer trained by Adam",
    },
}
"""By experiment, columns that hold something else there."""


def blocks() -> dict[str, str]:
    """Give what stands in every block, by name."""
    tables = ("layers", "heads", "massive", "prompts", "profile", "phases", "coupling")
    sites = ("state", "head", "block", "prompt")
    return {
        "rooms": rooms(),
        **{f"columns of {table}": columns_of(table) for table in tables},
        **{f"tables of {experiment}": tables_of(experiment) for experiment in experiments()},
        "fields of run.json": header_fields(),
        **{f"metrics by {site}": metrics_by(site) for site in sites},
        "conventions": conventions(),
        "help": command_line(),
        "data sets": data_sets(),
        "families": families(),
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
    """The columns of one table of a run."""
    from thalweg.store import schema

    columns = schema(name, variants=True, keep_text=True)
    return table(("column", "type", "what"), [(f"`{one}`", str(dtype), meaning(one)) for one, dtype in columns.items()])


def experiments() -> list[str]:
    """The experiments that add tables to a run, by the name of their directory."""
    from thalweg.store import EXPERIMENTS

    return sorted(EXPERIMENTS)


def tables_of(experiment: str) -> str:
    """The columns of every table of an experiment."""
    from thalweg.store import EXPERIMENTS

    tables = EXPERIMENTS[experiment]
    columns = ("column", "type", "what")
    return "\n\n".join(
        f"### {experiment}/{name}\n\n"
        + table(columns, [(f"`{one}`", str(dtype), meaning(one, experiment)) for one, dtype in own.items()])
        for name, own in (tables.wholes | tables.parts).items()
    )


def meaning(column: str, experiment: str = "") -> str:
    """What a column holds: by `OWN` of the experiment, by the catalogue if it is a metric, else by `COLUMNS`.

    Raises:
        KeyError: nobody has said what it holds.
    """
    from thalweg.catalogue import METRICS

    if column in OWN.get(experiment, {}):
        return OWN[experiment][column]
    row = {metric.name: metric for metric in METRICS}.get(column)
    if row is None:
        return COLUMNS[column]
    return row.label + ("; only with `--variants`" if row.variant else "")


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


def data_sets() -> str:
    """The short names of data sets."""
    from thalweg.prompts import list_data

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
    return table(("name", "hub id", "config", "split", "fields", "access", "note"), rows)


def families() -> str:
    """The families that the tests prove, and how their attention is seen."""
    from thalweg.capture import PROVED

    rows = [(f"`{family}`", path) for family, path in sorted(PROVED.items())]
    return table(("family (`model_type`)", "attention seen through"), rows)


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
    """Fill the blocks of every page."""
    written = blocks()
    for page in sorted(DOCS.glob("*.md")):
        page.write_text(filled(page.read_text(encoding="utf-8"), written), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
