"""Change a model for as long as a ``with`` block runs: hooks that go whatever happens.

A forward pass holds, with a cache, only the new tokens, and with padding on the left not those from the first on.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thalweg.capture import Site, Subject, additive_sites, rewrap, unwrap
from thalweg.errors import UsageError
from thalweg.interventions._edits import Clamp, Intervention, Positions, Remove, Replace, Rescale
from thalweg.shapes import Bool, Int

_suspending = ContextVar("suspending", default=False)


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
    for change in interventions:
        _check(subject, change, lengths)
    active = [change for change in interventions if not _changes_nothing(change)]
    sites = list[dict[str, Site]]()
    if any(isinstance(change, Remove) for change in active):
        with _suspended():  # the proof wants the model as it is
            sites = additive_sites(subject)
    tokens = _Tokens(lengths)
    with ExitStack() as stack:
        if active:
            body = subject.parts.body
            stack.enter_context(body.register_forward_pre_hook(tokens.enter, with_kwargs=True, prepend=True))
        # A hook that is put in front runs first, and so before one that observes; the last one put there is the first.
        for change in reversed(active):
            for handle in _hooks(subject, change, tokens, sites):
                stack.enter_context(handle)
        yield


@contextmanager
def _suspended() -> Iterator[None]:
    """No intervention changes anything in here."""
    token = _suspending.set(True)
    try:
        yield
    finally:
        _suspending.reset(token)


class _Tokens:
    """Follows a model's body from call to call, and knows the positions of the tokens in hand.

    It knows them on the processor, where nobody waits to ask, and takes to a device what an edit there needs once a
    pass.
    """

    def __init__(self, lengths: Tensor | None) -> None:
        self.lengths = None if lengths is None else lengths.cpu()
        self.running: Tensor | None = None
        self.there = dict[tuple[int, torch.device], tuple[Tensor, Tensor] | None]()

    def enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = args[0] if args else kwargs.get("input_ids")
        tokens: Tensor = given if given is not None else kwargs["inputs_embeds"]
        batch, count = tokens.shape[:2]
        cache = kwargs.get("past_key_values")
        seen = int(cache.get_seq_length()) if cache is not None else 0
        mask = kwargs.get("attention_mask")
        if isinstance(mask, Tensor) and mask.ndim == 2:
            real = mask.cpu().bool()
            held = (real.cumsum(-1) - 1).masked_fill(~real, -1)[:, seen : seen + count]
        else:
            held = torch.arange(seen, seen + count).expand(batch, count)
        if self.lengths is not None and len(self.lengths) == batch:
            held = held.masked_fill(held >= self.lengths[:, None], -1)
        self.running = held
        self.there.clear()

    @property
    def held(self) -> Int[Tensor, "batch token"]:
        """Positions of the tokens of the pass that is running, counted over real tokens; -1 for padding."""
        if self.running is None:
            raise UsageError("a block ran outside the model's body; interventions need a forward pass of the model.")
        return self.running

    def edited(self, change: Intervention, tensor: Tensor) -> Tensor | None:
        """What a change makes of a state or a summand; None where it has none of its rows."""
        held = self.held
        if _suspending.get():
            return None
        if (key := (id(change), tensor.device)) not in self.there:
            rows = _rows(held, change.positions)
            there = torch.stack([rows, held >= 0]).to(tensor.device) if rows.any() else None
            self.there[key] = None if there is None else (there[0], there[1])
        there = self.there[key]
        return None if there is None else change.edited(tensor, *there)


def _rows(held: Int[Tensor, "batch token"], wanted: Positions) -> Bool[Tensor, "batch token"]:
    """Which tokens are at the wanted positions."""
    chosen = torch.as_tensor(wanted, dtype=torch.long).cpu()
    if chosen.ndim == 1:
        chosen = chosen.expand(len(held), -1)
    if len(chosen) != len(held):
        raise UsageError(f"positions for {len(held)} prompts expected, one row each; got {len(chosen)} rows.")
    return (held[:, :, None] == chosen[:, None, :]).any(-1) & (held >= 0)


def _hooks(
    subject: Subject, change: Intervention, tokens: _Tokens, sites: Sequence[dict[str, Site]]
) -> Iterator[RemovableHandle]:
    blocks, after = subject.parts.blocks, _edited_output(change, tokens)
    if isinstance(change, Remove):
        for block in sorted(set(change.blocks)):
            yield sites[block][change.part].module.register_forward_hook(after, prepend=True)
        return
    for state in sorted(set(change.states)):
        if state == 0:
            before = _edited_input(change, tokens)
            yield blocks[0].module.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
        else:
            yield blocks[state - 1].module.register_forward_hook(after, prepend=True)


def _edited_output(change: Intervention, tokens: _Tokens) -> Callable[..., Any]:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        state = unwrap(output)
        edited = None if state is None else tokens.edited(change, state)
        return None if edited is None else rewrap(output, edited)

    return hook


def _edited_input(change: Intervention, tokens: _Tokens) -> Callable[..., Any]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        edited = tokens.edited(change, args[0] if args else kwargs["hidden_states"])
        if edited is None:
            return None
        return ((edited, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": edited})

    return hook


def _changes_nothing(change: Intervention) -> bool:
    nowhere = not bool((torch.as_tensor(change.positions) >= 0).any())
    places = change.blocks if isinstance(change, Remove) else change.states
    return nowhere or not len(places) or (isinstance(change, Clamp) and change.gamma == torch.inf)


def _check(subject: Subject, change: Intervention, lengths: Tensor | None) -> None:
    last = len(subject.parts.blocks)
    if isinstance(change, Remove):
        _in_range("block", change.blocks, last - 1)
    else:
        _in_range("state", change.states, last)
    lowest = int(torch.as_tensor(change.positions).min()) if len(change.positions) else 0
    if lowest < -1:
        raise UsageError(f"positions count from 0, and -1 stands for none; got {lowest}.")
    if isinstance(change, Clamp | Replace):
        width = subject.model.config.get_text_config(decoder=True).hidden_size
        _in_range("dimension", change.dims or (), width - 1)
        wanted = width if change.dims is None else len(change.dims)
        shape = change.value.shape if isinstance(change, Replace) and isinstance(change.value, Tensor) else ()
        if shape not in ((), (wanted,)):
            raise UsageError(f"a value to replace with has one number, or {wanted}; got the shape {tuple(shape)}.")
    if isinstance(change, Rescale) and lengths is None:
        raise UsageError(
            "rescaling takes the median norm of a prompt's other rows: pass lengths=, the prompts' lengths."
        )


def _in_range(what: str, given: Sequence[int], last: int) -> None:
    wrong = [index for index in given if not 0 <= index <= last]
    if wrong:
        raise UsageError(f"{what} {wrong[0]} does not exist; this model has {what}s 0 to {last}.")
