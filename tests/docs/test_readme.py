"""The README tells the truth: its Python runs and prints what it says, its commands and links exist."""

import re
from pathlib import Path

import pytest
import transformers

from thalweg.cli._app import PARAMETERS, application
from thalweg.cli._verbs import verbs
from thalweg.experiments._ablate.view import chapters
from thalweg.reference import bundled_directory
from thalweg.store import open_run

ROOT = Path(__file__).parents[2]
SENTENCES = Path(__file__).parent / "ablation.txt"
"""What the report says of the ablation of README, read as someone who knows that model would."""
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def fenced(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands(starts_with):
    lines = [
        line
        for page in PAGES
        for block in fenced("sh", page.read_text(encoding="utf-8"))
        for line in block.splitlines()
    ]
    return [line for line in lines if line.startswith(starts_with)]


def test_the_python_prints_what_the_readme_says(smollm2, tmp_path, monkeypatch, capsys):
    [code, held], [output] = fenced("python"), fenced("text")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / smollm2.name).symlink_to(smollm2)
    known = {}
    exec(compile(code, "README.md", "exec"), known)
    printed = capsys.readouterr().out.splitlines()
    said = [
        sentence
        for chapter in chapters(open_run("runs/first"))
        for section in chapter.sections
        for sentence in section.sentences
    ]
    assert said == SENTENCES.read_text(encoding="utf-8").splitlines(), "\n".join(said)
    for kind in (transformers.AutoModelForCausalLM, transformers.AutoTokenizer):
        load, here = kind.from_pretrained, str(bundled_directory())
        monkeypatch.setattr(kind, "from_pretrained", lambda _, load=load, here=here: load(here))
    exec(compile(held, "README.md", "exec"), known)
    assert known["run"].prompts.collect().height == 2
    assert printed == output.splitlines()
    assert len(printed) >= 3


def test_the_commands_exist_with_their_options():
    app = application(verbs())
    lines = commands("thalweg ")
    assert len(lines) >= 3
    for line in lines:
        _, verb, *rest = line.split()
        arguments = app[verb].assemble_argument_collection(default_parameter=PARAMETERS)
        known = {name for argument in arguments if argument.parse for name in argument.names}
        assert {word for word in rest if word.startswith("--")} <= known, line


def test_the_make_targets_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = {line.split()[1] for line in commands("make ")} | set(re.findall(r"`make ([\w-]+)`", README))
    assert {"test", "demo"} <= named <= set(targets)


def test_the_verbs_that_are_said_to_be_all_are_all():
    [named] = re.findall(r"These are all the verbs:\s+((?:`\w+`[,.]\s+)+)", README)
    assert set(re.findall(r"`(\w+)`", named)) == {verb.name for verb in verbs()}


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("https://"):
            file, _, anchor = target.partition("#")
            assert (page.parent / file).exists(), target
            headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
            assert file or anchor in {heading.lower().replace(" ", "-") for heading in headings}, target
