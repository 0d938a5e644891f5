"""How classifiers are trained: the paper's recipe by default."""

from typing import Annotated, Literal

from pydantic import Field

from thalweg.validated import Says, validated

COUNT = Field(ge=1)


@validated
class Recipe:
    """The paper's (Appendix B.3): Adam with PyTorch's defaults, no weight decay, one epoch.

    Attributes:
        classifier: a "linear" layer trained by Adam, or scikit-learn's "logistic", which takes the seed alone.
        learning_rate: of Adam.
        epochs: how often every example is seen.
        batch: examples of a step.
        seed: of the starting weights, the order of the examples, and the shares of a file.
    """

    classifier: Annotated[
        Literal["linear", "logistic"], Says("--classifier must be linear or logistic; got {got}.")
    ] = "linear"
    learning_rate: Annotated[
        float, Field(gt=0, allow_inf_nan=False), Says("--learning-rate must be above 0 and finite; got {got}.")
    ] = 5e-4
    epochs: Annotated[int, COUNT, Says("--epochs must be a whole number of at least 1; got {got}.")] = 1
    batch: Annotated[int, COUNT, Says("--batch must be a whole number of at least 1; got {got}.")] = 32
    seed: Annotated[
        int, Field(ge=0, lt=2**32), Says(f"--seed must be a whole number from 0 to {2**32 - 1}; got {{got}}.")
    ] = 123
