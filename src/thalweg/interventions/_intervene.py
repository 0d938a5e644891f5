"""Change a model for as long as a ``with`` block runs: hooks that go whatever happens."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.capture import Site, Subject, additive_sites, rewrap, unwrap
from thalweg.errors import UsageError
from thalweg.interventions._edits import Clamp, Intervention, Positions, Remove, Replace, Rescale, StateEdit
from thalweg.interventions._positions import Tokens, rows_at, suspended
from thalweg.shapes import Int


@contextmanager
def intervene(
    subject: Subject, *interventions: Intervention, lengths: Int[Tensor, " batch"] | None = None
) -> Iterator[None]:
    """Every forward pass of the model in here is changed; afterwards the model is what it was.

    Interventions on the same state act in the order given; of nested ones the inner acts first. Whoever observes the
    model sees states as they are after the change, whichever of the two was entered first.

    Args:
        subject: the model.
        interventions: what to change; none changes nothing.
        lengths: real tokens of each prompt of a batch padded on the right without an attention mask.

    Raises:
        UsageError: a block, state, dimension or position that the model does not have; a missing option.
        ProofError: a summand is to be removed and the model's summands cannot be told apart.
    """
    for one in interventions:
        _check(subject, one, lengths)
    active = [one for one in interventions if not _changes_nothing(one)]
    sites = list[dict[str, Site]]()
    if any(isinstance(one, Remove) for one in active):
        with suspended():  # the proof wants the model as it is
            sites = additive_sites(subject)
    tokens = Tokens(lengths)
    with ExitStack() as stack:
        if active:
            entered = subject.parts.body.register_forward_pre_hook(tokens.enter, with_kwargs=True, prepend=True)
            stack.callback(entered.remove)
        # A hook that is put in front runs first, and so before one that observes; the last one put there is the first.
        for one in reversed(active):
            for handle in _hooks(subject, one, tokens, sites):
                stack.callback(handle.remove)
        yield


def _hooks(
    subject: Subject, one: Intervention, tokens: Tokens, sites: Sequence[dict[str, Site]]
) -> Iterator[torch.utils.hooks.RemovableHandle]:
    blocks = subject.parts.blocks
    if isinstance(one, Remove):
        for block in sorted(set(one.blocks)):
            yield sites[block][one.part].module.register_forward_hook(_without(one.positions, tokens), prepend=True)
        return
    for state in sorted(set(one.states)):
        if state == 0:
            hook = _edited_input(one, tokens)
            yield blocks[0].module.register_forward_pre_hook(hook, with_kwargs=True, prepend=True)
        else:
            yield blocks[state - 1].module.register_forward_hook(_edited_output(one, tokens), prepend=True)


def _without(positions: Positions, tokens: Tokens) -> Callable[..., Any]:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        rows, written = rows_at(tokens, positions), unwrap(output)
        if written is None or not rows.any():
            return None
        # Experts see batch and token as one axis.
        return rewrap(output, written.masked_fill(rows.reshape(written.shape[:-1])[..., None], 0.0))

    return hook


def _edited_output(edit: StateEdit, tokens: Tokens) -> Callable[..., Any]:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        rows, state = rows_at(tokens, edit.positions), unwrap(output)
        if state is None or not rows.any():
            return None
        return rewrap(output, edit.edited(state, rows, tokens.real))

    return hook


def _edited_input(edit: StateEdit, tokens: Tokens) -> Callable[..., Any]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rows = rows_at(tokens, edit.positions)
        if not rows.any():
            return None
        if args:
            return (edit.edited(args[0], rows, tokens.real), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": edit.edited(kwargs["hidden_states"], rows, tokens.real)}

    return hook


def _changes_nothing(one: Intervention) -> bool:
    if isinstance(one.positions, Tensor):
        nowhere = not bool((one.positions >= 0).any())
    else:
        nowhere = not any(position >= 0 for position in one.positions)
    places = one.blocks if isinstance(one, Remove) else one.states
    return nowhere or not len(places) or (isinstance(one, Clamp) and one.gamma == torch.inf)


def _check(subject: Subject, one: Intervention, lengths: Tensor | None) -> None:
    last = len(subject.parts.blocks)
    if isinstance(one, Remove):
        _in_range("block", one.blocks, last - 1)
    else:
        _in_range("state", one.states, last)
    lowest = int(torch.as_tensor(one.positions).min()) if len(one.positions) else 0
    if lowest < -1:
        raise UsageError(f"positions count from 0, and -1 stands for none; got {lowest}.")
    if isinstance(one, Clamp | Replace):
        width = subject.model.config.get_text_config(decoder=True).hidden_size
        _in_range("dimension", one.dims or (), width - 1)
        wanted = width if one.dims is None else len(one.dims)
        if isinstance(one, Replace) and isinstance(one.value, Tensor) and one.value.shape not in ((), (wanted,)):
            raise UsageError(
                f"a value to replace with has one number, or {wanted}; got the shape {tuple(one.value.shape)}."
            )
    if isinstance(one, Rescale) and lengths is None:
        raise UsageError("rescaling takes the mean norm of a prompt's other rows: pass lengths=, the prompts' lengths.")


def _in_range(what: str, given: Sequence[int], last: int) -> None:
    wrong = [one for one in given if not 0 <= one <= last]
    if wrong:
        raise UsageError(f"{what} {wrong[0]} does not exist; this model has {what}s 0 to {last}.")
