"""What can a linear classifier read out of each state?

Features go in, rows x states x width, and one classifier comes out for every state. No model, tokenizer or table is
known here. Reading order: :mod:`._recipe` (how they are trained), :mod:`._linear` (one linear layer a state, all
trained together), :mod:`._logistic` (the same by scikit-learn, one after the other).
"""

from thalweg.probes._linear import Probes, starting_layer, train_linear, training_order
from thalweg.probes._logistic import fit_logistic, require_scikit_learn
from thalweg.probes._recipe import CLASSIFIERS, Recipe

__all__ = [
    "CLASSIFIERS",
    "Probes",
    "Recipe",
    "fit_logistic",
    "require_scikit_learn",
    "starting_layer",
    "train_linear",
    "training_order",
]
