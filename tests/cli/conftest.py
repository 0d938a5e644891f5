"""The command line without its cost: ``main`` in this process, with what it prints."""

import inspect
import json
import sys
from dataclasses import dataclass, replace
from functools import wraps
from importlib import import_module

import huggingface_hub
import pytest

from saved import llama, save
from thalweg.cli import main
from thalweg.cli._app import PARAMETERS, application
from thalweg.cli._verbs import verbs
from thalweg.experiments import experiments


@dataclass(frozen=True)
class Outcome:
    """What a command left on the terminal."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on stderr of a command that was refused."""
        assert self.code == 2, self
        assert self.out == ""
        [line] = self.err.splitlines()
        assert line.startswith("thalweg: ")
        assert "Traceback" not in line
        return line.removeprefix("thalweg: ")


@pytest.fixture
def thalweg(monkeypatch, capfd):
    """Run a command line; the hub is out of bounds."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.utils._http.constants.HF_HUB_OFFLINE", True)

    def run(*argv: object) -> Outcome:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["thalweg", *map(str, argv)])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capfd.readouterr()
        return Outcome(left.value.code or 0, printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny random model on disk."""
    return save(llama(), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Seventy prompts: more than one shard."""
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    lines = [{"text": f"{row} bottles of water " * (1 + row % 2)} for row in range(70)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture
def asked(monkeypatch):
    """What an experiment's function is called with, by the names of its parameters, instead of running it."""

    def of(verb):
        calls = []
        (experiment,) = [known for known in experiments() if known.verb == verb]

        @wraps(experiment.function)
        def recorded(*given, **named):
            bound = inspect.signature(inspect.unwrap(experiment.function)).bind(*given, **named)
            bound.apply_defaults()
            calls.append({name: value for name, value in bound.arguments.items() if name != "_"})
            raise KeyboardInterrupt

        module = import_module(f"thalweg.experiments._{verb}")
        monkeypatch.setattr(module, "EXPERIMENT", replace(experiment, function=recorded))
        return calls

    return of


@pytest.fixture(scope="session")
def options():
    """Every option of a verb by its name, with its default and what the help says."""
    known = verbs()
    app = application(known)

    def of(verb):
        arguments = app[verb].assemble_argument_collection(default_parameter=PARAMETERS, parse_docstring=True)
        shown = [argument for argument in arguments if argument.parse and argument.show]
        return {next(filter(None, argument.names)): argument for argument in shown}

    return of
