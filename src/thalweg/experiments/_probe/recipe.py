"""How classifiers are trained: the paper's recipe by default."""

import math
from dataclasses import dataclass
from typing import Literal

from thalweg.errors import UsageError

CLASSIFIERS = ("linear", "logistic")


@dataclass(frozen=True)
class Recipe:
    """The paper's (Appendix B.3): Adam with PyTorch's defaults, no weight decay, one epoch.

    Attributes:
        classifier: a "linear" layer trained by Adam, or scikit-learn's "logistic", which takes the seed alone.
        learning_rate: of Adam.
        epochs: how often every example is seen.
        batch: examples of a step.
        seed: of the starting weights, the order of the examples, and the shares of a file.
    """

    classifier: Literal["linear", "logistic"] = "linear"
    learning_rate: float = 5e-4
    epochs: int = 1
    batch: int = 32
    seed: int = 123

    def __post_init__(self) -> None:
        if self.classifier not in CLASSIFIERS:
            raise UsageError(f"--classifier must be {' or '.join(CLASSIFIERS)}; got {self.classifier}.")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"--learning-rate must be above 0 and finite; got {self.learning_rate:g}.")
        for name in ("epochs", "batch"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1):
                raise UsageError(f"--{name} must be a whole number of at least 1; got {value!r}.")
        if not (isinstance(self.seed, int) and 0 <= self.seed < 2**32):
            raise UsageError(f"--seed must be a whole number from 0 to {2**32 - 1}; got {self.seed!r}.")
