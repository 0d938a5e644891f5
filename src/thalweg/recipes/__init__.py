"""Which command gives a figure of the paper? A recipe for each: models, data, verbs, and what is drawn.

``_recipe`` what a recipe is, ``_reproduce`` how it is run; ``figure_01.toml`` and so on the recipes.
"""

from thalweg.recipes._recipe import Recipe, recipes
from thalweg.recipes._reproduce import Reproduced, reproduce

__all__ = ["Recipe", "Reproduced", "recipes", "reproduce"]
