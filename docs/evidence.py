"""Write docs/evidence.md: what the paper says, and what real, trained and planted models show of it.

    make evidence                       # the runs that are missing are made under runs/evidence, then the page
    make evidence DATA=folder           # WikiText-2, ARC Easy and SST-2 from files instead of the hub

To add a model, name it in ``MODELS`` and run it again.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import thalweg
from thalweg.errors import ThalwegError
from thalweg.experiments import experiments
from thalweg.shown import Card, Section, amount, interval
from thalweg.store import Run

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
MODELS = {
    "SmolLM2-135M-Instruct (Q4_1)": str(ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"),
    "reference (trained, its row planted)": "reference",
    "planted (built, not trained)": "planted",
}
REAL = next(iter(MODELS))
TASKS = ROOT / "runs" / "evidence" / "tasks"
PROMPTS, ABLATED = 48, 16
BLOCKS, QUESTIONS, EXAMPLES = 8, 200, 600


def main() -> None:
    """Make the runs that are missing, and write the page."""
    runs = {name: surveyed(name, model) for name, model in MODELS.items()}
    downstream(runs[REAL].path)
    (DOCS / "evidence.md").write_text("\n".join(page(runs)) + "\n", encoding="utf-8")


def surveyed(name: str, model: str) -> Run:
    """Give the survey of a model, with its attribution and its ablation."""
    out = ROOT / "runs" / "evidence" / name.split()[0].lower()
    thalweg.survey(model, out=out, limit=PROMPTS, dtype="float32")
    for experiment in (thalweg.attribute, thalweg.ablate):
        more = {"seeds": 1} if experiment is thalweg.ablate else {}
        experiment(model, out=out, limit=ABLATED, dtype="float32", **more)
    return thalweg.open_run(out)


def downstream(run: Path) -> None:
    """What every state of the real model is good for (the paper, section 5), as far as the data are there."""
    model, data = str(run), os.environ.get("DATA")
    if data:
        folder = Path(data)
        text, labelled = str(folder / "wikitext2_test.txt"), str(folder / "sst2_train.tsv")
        splits = {"validation": str(folder / "sst2_dev.tsv"), "test": str(folder / "sst2_test.tsv")}
        questions = {
            "tasks": "arc_easy_file",
            "include_path": str(task_of(folder / "arc_easy_test.jsonl", "arc_easy_file", TASKS)),
        }
    else:
        text, labelled, splits, questions = "wikitext2", "sst2", dict[str, str](), {"tasks": "arc_easy"}
    asked = [
        lambda: thalweg.lens(model, text, block_length=512, limit=BLOCKS),
        lambda: thalweg.probe(model, labelled, limit=EXAMPLES, **splits),
        lambda: thalweg.probe(model, labelled, limit=EXAMPLES, classifier="logistic", standardize=True, **splits),
        lambda: thalweg.mcq(model, limit=QUESTIONS, **questions),
    ]
    for ask in asked:
        try:
            ask()
        except ThalwegError as error:
            sys.stderr.write(f"left out: {error}\n")


def task_of(file: Path, name: str, folder: Path) -> Path:
    """Write a task of lm-eval over AI2's own file of ARC; gives its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    metric = "  - {metric: %s, aggregation: mean, higher_is_better: true}"
    lines = [
        f"task: {name}",
        "dataset_path: json",
        f"dataset_kwargs: {{data_files: {{test: '{file.resolve()}'}}}}",
        "output_type: multiple_choice",
        "test_split: test",
        'doc_to_text: "Question: {{question.stem}}\\nAnswer:"',
        """doc_to_target: "{{'ABCDE'.find(answerKey) if answerKey in 'ABCDE' else answerKey | int - 1}}\"""",
        """doc_to_choice: "{{question.choices | map(attribute='text') | list}}\"""",
        "metric_list:",
        *(metric % name for name in ("acc", "acc_norm")),
    ]
    (folder / f"{name}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def page(runs: dict[str, Run]) -> Iterator[str]:
    """The lines of the page."""
    yield "<!-- Written by docs/evidence.py: run `make evidence`. Do not edit. -->"
    yield "\n# Evidence: what the paper says, and what is seen\n"
    yield (
        f"Each model is surveyed in float32 on the first {PROMPTS} bundled prompts, attributed and ablated on the "
        f"first {ABLATED}. Numbers are means over prompts with 95 % intervals; what the words mean is told in "
        "[phases](phases.md) and [experiments](experiments.md). SmolLM2 is a real pretrained model. The two others "
        "come with thalweg: what is planted in them is no evidence for the paper, but shows that it is found."
    )
    yield "\n## The claims\n"
    yield from claims(runs)
    for name, run in runs.items():
        yield f"\n## {name}\n"
        for experiment in experiments():
            for card in experiment.cards(run):
                yield from answers(card)
        for experiment in experiments():
            for chapter in experiment.chapters(run):
                if chapter.anchor not in ("depth", "phases", "mixing", "norms", "heads", "massive", "coupling"):
                    yield from sentences(chapter.title, chapter.sections)
        if run.experiments("lens"):
            yield from by_depth(run)
    yield "\n## Add a model\n"
    yield (
        "Name it in `MODELS` of `docs/evidence.py`, a hub id, a directory or a GGUF file, and run `make evidence`. "
        "Only the runs that are missing are made; they stay under `runs/evidence`, and only this page is committed."
    )


def claims(runs: dict[str, Run]) -> Iterator[str]:
    """A table of the paper's claims against the models."""
    tables = [run.claims.collect() for run in runs.values()]
    yield f"| phase | claim | {' | '.join(runs)} |"
    yield f"| --- | --- |{' --- |' * len(runs)}"
    named = dict.fromkeys((phase, claim) for table in tables for phase, claim in table["phase", "claim"].iter_rows())
    for phase, claim in named:
        cells = []
        for table in tables:
            rows = table.filter(phase=phase, claim=claim).to_dicts()
            cells.append(told(rows[0]) if rows else "no phases")
        yield f"| {phase} | {claim} | {' | '.join(cells)} |"


def told(row: dict) -> str:
    """A claim's mark with its number."""
    if row["mark"] is None or not row["n"]:
        return row["reason"] or "left out"
    ends = interval(row["low"], row["high"])
    return f"{row['mark']}: {amount(row['mean'])} {ends}, {row['side']} {row['bound']:.3g}"


def answers(card: Card) -> Iterator[str]:
    """The answers of a card."""
    for answer in card.answers:
        yield f"- **{answer.question}** {answer.text}"


def sentences(title: str, sections: list[Section]) -> Iterator[str]:
    """What a chapter says."""
    telling = [section for section in sections if section.sentences]
    for section in telling:
        yield f"\n**{title}**{f' ({section.facts})' if section.facts and len(telling) > 1 else ''}.\n"
        yield from (f"- {sentence}." for sentence in section.sentences)


def by_depth(run: Run) -> Iterator[str]:
    """What every state is good for, state by state: the curves of the paper's Figures 8 to 10."""
    columns = dict[str, dict[int, str]]()
    for findings in run.experiments("lens"):
        for metric in ("perplexity", "agreement"):
            rows = findings.table("curves").filter(metric=metric).collect().iter_rows(named=True)
            columns[f"{metric}, WikiText-2"] = {row["state"]: f"{row['value']:,.3g}" for row in rows}
    for findings in run.experiments("mcq"):
        rows = findings.table("scores").filter(metric="acc").collect().iter_rows(named=True)
        columns["accuracy, ARC Easy"] = {row["state"]: f"{row['value']:.3f}" for row in rows}
    for findings in run.experiments("probe"):
        rows = findings.table("accuracy").filter(split="test").collect().iter_rows(named=True)
        columns[f"{findings.header.settings['classifier']} probe, SST-2"] = {
            row["state"]: f"{row['accuracy']:.3f}{' (*)' if row['converged'] is False else ''}" for row in rows
        }
    yield "\n**By depth** (WikiText-2: blocks of 512 tokens; (*): this probe has not converged).\n"
    yield f"| state | {' | '.join(columns)} |"
    yield f"| --- |{' --- |' * len(columns)}"
    for state in sorted({state for column in columns.values() for state in column}):
        yield f"| {state} | {' | '.join(column.get(state, '') for column in columns.values())} |"


if __name__ == "__main__":
    main()
