"""What a person sees of the application itself: help at once, a mistake in one line."""

import re
import subprocess
import sys

import pytest
from tests.contrasted import contrasted_run
from tests.synthetic_run import PLAIN, build_run

import thalweg
from thalweg.cli._verbs import verbs

VERBS = sorted(verb.name for verb in verbs())

WITHOUT_TORCH = """
import contextlib, io, sys
import thalweg
assert set(dir(thalweg)) >= {"survey", "open_run"}
from thalweg.cli import main
for command in sys.argv[1].split("|"):
    sys.argv = ["thalweg", *command.split()]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            main()
        except SystemExit as left:
            assert left.code == 0, (command, left.code)
    assert printed.getvalue().strip(), command
    loaded = {"torch", "transformers", "datasets", "accelerate"} & set(sys.modules)
    assert not loaded, (command, loaded)
"""


def test_help_lists_and_looking_at_a_run_load_no_torch(tmp_path):
    build_run(tmp_path / "run", models=(PLAIN,), data=("words",))
    commands = ["", "--help", "--version", "list metrics", "list data", *(f"{verb} --help" for verb in VERBS)]
    contrasted_run(tmp_path / "contrasted")
    commands += [f"report {tmp_path / 'run'}", f"table {tmp_path / 'run'} heads", f"show {tmp_path / 'run'}"]
    commands += [f"compare {tmp_path / 'run'} {tmp_path / 'contrasted'}", f"contrast {tmp_path / 'contrasted'}"]
    code = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, "|".join(commands)]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_verbs_are_there(thalweg):
    assert VERBS == [
        "ablate",
        "advise",
        "attribute",
        "checkpoints",
        "clip",
        "compare",
        "contrast",
        "figures",
        "heads",
        "lens",
        "list",
        "mcq",
        "mteb",
        "probe",
        "report",
        "reproduce",
        "scan",
        "show",
        "survey",
        "table",
        "verify",
    ]
    for outcome in (thalweg(), thalweg("--help"), thalweg("-h")):
        assert (outcome.code, outcome.err) == (0, "")
        for verb in VERBS:
            assert re.search(rf"│ {verb} ", outcome.out) or f" {verb} " in outcome.out


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_has_an_example_and_a_word_on_every_option(thalweg, options, verb):
    outcome = thalweg(verb, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    examples = re.search(r"On the command line:(.*?)(╭|Options)", outcome.out, flags=re.DOTALL)
    assert examples, outcome.out
    assert re.search(rf"thalweg {verb}\b", examples[1])
    for name, option in options(verb).items():
        assert option.parameter.help, (verb, name)
    for python in (">>>", "Returns:", "Raises:", "Example:", "Args:", ":func:", "``"):
        assert python not in outcome.out


def test_the_version_is_the_packages(thalweg):
    assert thalweg("--version").out.strip() == sys.modules["thalweg"].__version__


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["bogus"], "No such command 'bogus'. See `thalweg --help`."),
        (["surve"], "Did you mean 'survey'? See `thalweg --help`."),
        (["--bogus"], "No such option: --bogus"),
        (["survey", "--bogus"], "No such option: --bogus"),
        (["survey", "--limi", "3"], "--limit"),
        (["survey", "--limit", "few"], "Invalid value for '--limit'"),
        (["survey", "--limit"], "Option '--limit' requires an argument"),
        (["survey", "--bos", "maybe"], "'maybe' is not one of 'auto', 'always', 'never'"),
        (["survey", "--engine", "cloud"], "'cloud' is not one of 'local'"),
        (["list"], "metrics, models, data"),
        (["list", "nothing"], "'nothing' is not one of 'metrics', 'models', 'data'"),
        (["list", "metrics", "more"], "unexpected extra argument"),
        (["report"], "Missing argument 'RUN'"),
        (["figures"], "Missing argument 'RUN'"),
        (["verify", "--dtype"], "Option '--dtype' requires an argument"),
    ],
    ids=" ".join,
)
def test_a_command_that_is_not_understood_is_one_line(thalweg, argv, words):
    complaint = thalweg(*argv).complaint
    assert words in complaint
    assert re.search(r"See `thalweg[ a-z]* --help`\.$", complaint)


def test_a_reader_who_has_seen_enough_hears_no_complaint():
    """As in ``thalweg list metrics | head -1``."""
    command = [sys.executable, "-m", "thalweg", "list", "metrics"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listing:
        listing.stdout.close()
        assert listing.stderr.read() == b""
        assert listing.wait() in (0, 1)


def test_names_are_loaded_when_they_are_used():
    for name in thalweg.__all__:
        assert getattr(thalweg, name)
    with pytest.raises(AttributeError, match="no attribute 'surveys'"):
        _ = thalweg.surveys


@pytest.mark.parametrize("verb", VERBS)
def test_no_option_turns_off_what_cannot_be_turned_off(options, verb):
    shown = options(verb)
    negatives = {name for option in shown.values() for name in option.names if re.match("--(no|empty)-", name)}
    assert negatives <= {"--no-final-norm", "--no-blocks", "--no-prefetch"}
    assert all(
        name.startswith("--") or name in ("MODEL", "MODEL|RUN", "RUN", "WHAT", "NAME", "OTHER", "FIGURE")
        for name in shown
    )


def test_the_last_of_an_option_that_is_given_twice_counts(thalweg, asked):
    calls = asked("survey")
    thalweg("survey", "--limit", 3, "--limit", 4)
    assert calls.pop()["options"].limit == 4


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_verbs_and_options(thalweg, tmp_path, shell):
    script = tmp_path / "completion"
    outcome = thalweg("--install-completion", "--shell", shell, "--output", script)
    assert (outcome.code, outcome.err) == (0, "")
    written = script.read_text()
    for word in (*VERBS, "massive-ratio", "train-tuned", "never"):
        assert word in written
