"""Watch the states of one forward pass and nothing else: the model computes its attention as it always does."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from thalweg.capture._blocks import unwrap
from thalweg.capture._observe import Subject
from thalweg.capture._parts import Block
from thalweg.errors import ProofError

See = Callable[[int, Tensor], None]


@contextmanager
def watch_states(subject: Subject, see: See) -> Iterator[None]:
    """Show every state of every forward pass in here, at the cost of the pass alone.

    Args:
        subject: the model.
        see: given l and X(l), batch x token x width, l = 0..L in order, before the final norm; padded on the right,
            must not be kept.

    Raises:
        ProofError: a block returns something else than one residual stream.

    Example:
        >>> with watch_states(subject, lambda index, state: print(index, state.shape)):  # doctest: +SKIP
        ...     subject.parts.body(input_ids=tokens, use_cache=False)
    """
    with ExitStack() as stack:
        first = subject.parts.blocks[0].module
        stack.callback(first.register_forward_pre_hook(_enter(see), with_kwargs=True).remove)
        for block in subject.parts.blocks:
            stack.callback(block.module.register_forward_hook(_leave(block, see)).remove)
        yield


def _enter(see: See) -> Callable[..., None]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        see(0, args[0] if args else kwargs["hidden_states"])

    return hook


def _leave(block: Block, see: See) -> Callable[..., None]:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        state = unwrap(output)
        if state is None or state.ndim != 3:
            raise ProofError(
                f"block {block.index} returned {type(output).__name__}; expected one residual stream, "
                "batch x token x width."
            )
        see(block.index + 1, state)

    return hook
