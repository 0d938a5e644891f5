"""States and attention maps that the metrics are tried on, and naive float64 oracles for them."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from thalweg import metrics

KINDS = (
    "plain",
    "massive",
    "two massive",
    "massive elsewhere",
    "mean direction",
    "equal rows",
    "zero rows",
    "one direction",
    "decaying",
)


def predictions() -> dict[str, list[float]]:
    """Every number of the logit lens and of answers, on drawn logits: for the goldens."""
    rng = np.random.default_rng(3)
    state, last = (torch.from_numpy(rng.normal(0, 4, (6, 19)).round(3)).float() for _ in range(2))
    state[2] = last[2]
    targets = torch.from_numpy(rng.integers(0, 19, 6))
    read, own = metrics.log_probabilities(state), metrics.log_probabilities(last)
    likelihoods, greedy = metrics.target_likelihoods(read, torch.tensor([0, 2, 2, 5]), own.argmax(-1)[[1, 2, 3, 5]])
    sums, chosen = metrics.continuation_likelihood(likelihoods, greedy, torch.tensor([0, 1, 0, 2]), 3)
    found = {
        "next_token_loss": metrics.next_token_loss(state, targets),
        "token_loss": metrics.token_loss(read, targets),
        "output_entropy": metrics.output_entropy(read),
        "agreement": metrics.agreement(read, own),
        "kl_to_last": metrics.kl_to_last(read, own),
        "target_likelihoods": likelihoods,
        "target_greedy": greedy.float(),
        "continuation_likelihood": sums,
        "continuation_greedy": chosen.float(),
    }
    return {name: values.tolist() for name, values in found.items()}


def build_state(kind: str, tokens: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    state = rng.standard_normal((tokens, width))
    if kind == "massive":
        state[0] *= 10.0 ** rng.uniform(1, 5)
    elif kind == "two massive":
        state[[0, tokens // 2]] *= 10.0 ** rng.uniform(1, 4)
    elif kind == "massive elsewhere":
        state[-1] *= 1e3
    elif kind == "mean direction":
        state += 5 * rng.standard_normal(width)
    elif kind == "equal rows":
        state[:] = state[rng.integers(0, max(1, tokens // 3), tokens)]
    elif kind == "zero rows":
        state[rng.random(tokens) < 0.3] = 0
        state[0] = rng.standard_normal(width)
    elif kind == "one direction":
        state = rng.standard_normal((tokens, 1)) * rng.standard_normal(width)
    elif kind == "decaying":
        state *= np.arange(1, width + 1) ** -2.0
    return state


def statistics_of(maps: list[np.ndarray], *, pad: int = 0, fill: float = 0.0) -> dict[str, torch.Tensor]:
    """What streaming would return for a batch of attention maps (head, T, T), by plain loops, padded with `fill`."""
    longest, heads = max(a.shape[1] for a in maps) + pad, maps[0].shape[0]
    names = ("column_mass", "row_entropy", "diagonal", "previous", "row_sum")
    found = {name: np.full((len(maps), heads, longest), fill) for name in names}
    visible = np.full((len(maps), longest), 7)
    for n, attention in enumerate(maps):
        for h in range(heads):
            for t in range(attention.shape[1]):
                row = attention[h, t]
                total = row.sum()
                shares = row[row > 0] / total
                found["column_mass"][n, h, t] = attention[h, :, t].sum()
                found["row_entropy"][n, h, t] = -(shares * np.log(shares)).sum()
                found["diagonal"][n, h, t] = row[t]
                found["previous"][n, h, t] = row[t - 1] if t else fill
                found["row_sum"][n, h, t] = total
                visible[n, t] = t + 1
    return {
        **{name: torch.tensor(values) for name, values in found.items()},
        "visible": torch.tensor(visible),
        "lengths": torch.tensor([a.shape[1] for a in maps]),
    }


def causal_softmax(
    heads: int, tokens: int, seed: int, *, scale: float = 2.0, sink_logit: float | None = None
) -> np.ndarray:
    """Random causal attention; a sink logit takes its share of every row."""
    scores = np.random.default_rng(seed).standard_normal((heads, tokens, tokens)) * scale
    weights = np.tril(np.exp(scores))
    extra = 0.0 if sink_logit is None else math.exp(sink_logit)
    return weights / (weights.sum(-1, keepdims=True) + extra)


@pytest.fixture(scope="session")
def state_of() -> Callable[..., np.ndarray]:
    return build_state


@pytest.fixture(scope="session")
def predicted() -> dict[str, list[float]]:
    return predictions()


@pytest.fixture(scope="session")
def statistics() -> Callable[..., dict[str, torch.Tensor]]:
    return statistics_of


@pytest.fixture(scope="session")
def softmax_heads() -> Callable[..., np.ndarray]:
    return causal_softmax


@pytest.fixture(scope="session")
def pure_sink() -> Callable[[int], np.ndarray]:
    def build(tokens: int) -> np.ndarray:
        attention = np.zeros((1, tokens, tokens))
        attention[0, :, 0] = 1
        return attention

    return build


@pytest.fixture(scope="session")
def identity() -> Callable[[int], np.ndarray]:
    return lambda tokens: np.eye(tokens)[None]


@pytest.fixture(scope="session")
def uniform() -> Callable[[int], np.ndarray]:
    return lambda tokens: (np.tril(np.ones((tokens, tokens))) / np.arange(1, tokens + 1)[:, None])[None]


@pytest.fixture(scope="session")
def kinds() -> tuple[str, ...]:
    return KINDS


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param
