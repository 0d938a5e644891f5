"""What a recipe is: models, data and verbs of one figure of the paper, read from a file and checked."""

import inspect
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from thalweg.errors import UsageError
from thalweg.experiments import experiments
from thalweg.paths import file_here

FOLDER = Path(str(files("thalweg.recipes")))
BYTES = 2
"""Of a parameter in bfloat16."""


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecipeModel(_Checked):
    """A model of a figure.

    Attributes:
        name: hub id.
        revision: on the hub.
        billions: of parameters.
        options: by verb, what is asked of this model alone.
    """

    name: str
    revision: str = "main"
    billions: float = Field(gt=0)
    options: Mapping[str, Mapping[str, Any]] = {}


class Step(_Checked):
    """One verb.

    Attributes:
        verb: such as ``survey``.
        data: in place of the recipe's.
        limit: in place of the recipe's.
        options: of the verb, by their names in Python; the text "{run}" stands for the run's directory.
        reads: asked of what the run holds, which says model, data and how they are read.
    """

    verb: str
    data: str | None = None
    limit: int | None = Field(default=None, ge=1)
    options: Mapping[str, Any] = {}
    reads: bool = False

    @model_validator(mode="after")
    def _of_the_verb(self) -> "Step":
        refuse_unknown(self.verb, self.options)
        return self


class Drawing(_Checked):
    """What is drawn of a run.

    Attributes:
        figure: how the name of its file begins, as ``thalweg figures`` names it.
        panels: the titles of those that are wanted, or how they begin; all of them by default.
    """

    figure: str
    panels: tuple[str, ...] = ()


class Recipe(_Checked):
    """One figure of the paper.

    Attributes:
        figure: its number.
        shows: what it shows.
        remark: what the paper leaves open, or what is drawn otherwise.
        models: in the paper's order.
        together: all models in one run and one figure, or each in its own.
        data: a short name or a hub data set.
        limit: rows of it; all where there is none.
        max_length: tokens of a prompt.
        apart: in a run of its own, which no other figure shares.
        passes: prompts that go through each model, about, where the limit does not say it.
        steps: in their order.
        draws: from the run.
    """

    figure: int = Field(ge=1)
    shows: str
    remark: str = ""
    models: tuple[RecipeModel, ...] = Field(min_length=1)
    together: bool = False
    data: str = "gsm8k"
    limit: int | None = Field(default=None, ge=1)
    max_length: int | None = Field(default=None, ge=1)
    apart: bool = False
    passes: int = Field(ge=1)
    steps: tuple[Step, ...] = Field(min_length=1)
    draws: tuple[Drawing, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _of_its_verbs(self) -> "Recipe":
        for model in self.models:
            for verb, options in model.options.items():
                if verb not in {step.verb for step in self.steps}:
                    raise ValueError(f"options of {verb} for {model.name}, which is no verb of the recipe")
                refuse_unknown(verb, options)
        return self

    @property
    def gigabytes(self) -> float:
        """Of all weights, in bfloat16."""
        return BYTES * sum(model.billions for model in self.models)


def refuse_unknown(verb: str, options: Mapping[str, Any]) -> None:
    """Refuse what is no verb, or no option of it.

    Raises:
        ValueError: which pydantic tells with its place.
    """
    functions = {known.verb: known.function for known in experiments()}
    if verb not in functions:
        raise ValueError(f"no verb {verb}{_nearest(verb, functions)}")
    names = inspect.signature(functions[verb]).parameters
    for name in options:
        if name not in names:
            raise ValueError(f"{verb} has no option {name}{_nearest(name, names)}")


def read_recipe(file: Path) -> Recipe:
    """Read a recipe.

    Raises:
        UsageError: there is no such file, or it is no recipe; the message says where.
    """
    try:
        values = tomllib.loads(file_here(file, UsageError).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: expected a recipe; got {error.strerror}. See `thalweg list figures`.") from error
    except (ValueError, RecursionError) as error:  # no text, no TOML, a number of thousands of digits
        raise UsageError(f"{file}: expected a recipe in TOML; got {' '.join(str(error).split())}.") from error
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{file}: {_mistake(error)}") from error


@cache
def recipes() -> Mapping[int, Recipe]:
    """Give the recipes of the paper's figures, by number."""
    every = (read_recipe(file) for file in sorted(FOLDER.glob("figure_*.toml")))
    return {recipe.figure: recipe for recipe in every}


def chosen(figure: str) -> Iterator[Recipe]:
    """Give the recipes that a person asks for: a number, "all", or a file.

    Raises:
        UsageError: there is no such figure, or file.
    """
    if figure == "all":
        yield from recipes().values()
    elif figure.isdecimal():
        if int(figure) not in recipes():
            raise UsageError(
                f"the paper has no figure {figure}; expected 1 to {max(recipes())}, all, or a .toml file. See `thalweg "
                "list figures`."
            )
        yield recipes()[int(figure)]
    elif figure.endswith(".toml"):
        yield read_recipe(Path(figure))
    else:
        raise UsageError(f"expected the number of a figure, all, or a .toml file; got {figure!r:.60}.")


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f". Did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


def _mistake(error: ValidationError) -> str:
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")  # which says most
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = {"models": RecipeModel, "steps": Step, "draws": Drawing}.get(str(first["loc"][0]), Recipe)
        return f"unknown field {place}{_nearest(str(first['loc'][-1]), known.model_fields)}"
    said = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{f'{place}: ' if place else ''}{said}." if not said.endswith("?") else f"{place}: {said}"
