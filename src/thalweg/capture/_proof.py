"""Show on a few tokens that a model's parts are what they seem, before any number is taken from them.

Proofs belong to capabilities, so that only the verb that needs a failing one refuses:

* *finite numbers*: no weight and no state is NaN or infinite; told first, and alone, where a proof fails for that;
* *states and attention* (survey): later tokens change no earlier state; the states seen are Hugging Face's own; under
  streamed attention every state is what it is under the model's own; the statistics of every map are those of the map;
  an edit of a state moves the output;
* *additive parts* (ablations): block input + attention + MLP contribution = block output;
* *unembedding* (lenses): final norm and unembedding of X(L) give the model's own logits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from transformers import PreTrainedModel

from thalweg.capture._interface import attention_implementation
from thalweg.capture._observe import AttentionSeen, observe, watch_states
from thalweg.capture._parts import rewrap, text_configuration, unwrap
from thalweg.capture._shared import gathered, own_part
from thalweg.capture._solved import additive_parts, find_unembedding, tolerance
from thalweg.capture._subject import Subject
from thalweg.errors import ProofError
from thalweg.shapes import Float, Int
from thalweg.streaming import AttentionStatistics, statistics_of_map

Capability = Literal["finite numbers", "states and attention", "additive parts", "unembedding"]

TOKENS = 12
SAME = 1e-6  # between the same numbers of one forward pass, whatever their dtype
# Between two passes float32 differs by rounding alone; in a float64 model, too, eager attention takes its softmax in
# float32. Half precisions differ by their order of rounding through every block: two of half an eps a block, which add
# up as a random walk to sqrt(blocks / 2) eps, 0.05 of bfloat16 in 80 blocks, and to more where attention scores are
# large: one of 100 is off by up to 0.4 in bfloat16, by 0.05 in float16. A real model of 30 blocks: 0.023 and 0.0028.
TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 0.2, torch.float16: 0.1}
# The same norm and matrix on the same state of the same pass: what follows, in half precision, are the four roundings
# of a scale and a soft cap, half an eps each; twice that.
UNEMBEDDING_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 2**-5, torch.float16: 2**-8}
# The same in attention maps, not relative: a column's sum reaches the tokens of the prompt, an entropy their logarithm.
MAP_TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.2}


@dataclass(frozen=True)
class Check:
    """One line of a proof: what was compared, whether it held, and the figures."""

    capability: Capability
    name: str
    passed: bool
    detail: str


@dataclass
class _Recorder:
    """Keeps a short prompt's states and statistics for comparison."""

    states: dict[int, Tensor] = field(default_factory=dict)
    statistics: dict[int, AttentionStatistics] = field(default_factory=dict)

    def state(self, index: int, state: Tensor, /) -> None:
        self.states[index] = state.detach().clone()

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        self.statistics[block] = seen.statistics


def require(subject: Subject, capability: Capability) -> None:
    """Prove ``capability`` or refuse.

    Raises:
        ProofError: names every failing check and where a row can be added.
    """
    failed = [check for check in prove(subject, capability) if not check.passed]
    if unfit := [check for check in prove(subject, "finite numbers") if not check.passed] if failed else []:
        raise ProofError(f"{type(subject.model).__name__} cannot be measured ({capability}): {unfit[0].detail}.")
    if failed:
        lines = "; ".join(f"{check.name}: {check.detail}" for check in failed)
        raise ProofError(
            f"{type(subject.model).__name__} cannot be measured ({capability}): {lines}. "
            "If its parts are in an unusual place, capture/_families.py takes a row for it."
        )


@torch.no_grad()
def prove(subject: Subject, *capabilities: Capability) -> list[Check]:
    """Run the checks of ``capabilities``, all of them by default, on 12 random tokens and a variant of them."""
    wanted = capabilities or get_args(Capability)
    tokens = proof_tokens(subject)
    recorder = _Recorder()
    with observe(subject, recorder, torch.tensor([TOKENS, TOKENS])):
        output = subject.parts.body(input_ids=tokens, use_cache=False, output_hidden_states=True, return_dict=True)
    if unseen := sorted(set(range(len(subject.parts.blocks) + 1)) - set(recorder.states)):
        raise ProofError(
            f"{type(subject.model).__name__} runs without the block that gives state {unseen[0]}: what was taken for "
            "its list of blocks is another list."
        )
    if not output.hidden_states:
        raise ProofError(f"{type(subject.parts.body).__name__} returned no states to compare with.")
    checks = list[Check]()
    if "finite numbers" in wanted:
        checks += _finite(subject.model, recorder)
    if "states and attention" in wanted:
        checks += _states_and_attention(subject, tokens, recorder, output.hidden_states)
    if "additive parts" in wanted:
        checks += _additive(subject, tokens)
    if "unembedding" in wanted:
        checks.append(_unembedding(subject, tokens))
    return checks


def _finite(model: PreTrainedModel, seen: _Recorder) -> list[Check]:
    """The first weight and the first state that hold a number which is none; an Inf of float16 may be its own."""
    todo = "Fetch the weights again, or take another checkpoint"
    if model.dtype == torch.float16:
        todo = "float16 ends at 65504: run again with --dtype bfloat16 or float32"
    weight = state = None
    for name, values in ((name, own_part(weight)) for name, weight in model.named_parameters()):
        if values.dtype in TOLERANCE and not values.is_meta and not all(end.isfinite() for end in values.aminmax()):
            count = values.numel() - int(values.isfinite().sum())
            weight = f"{name}: {count:,} of {values.numel():,} numbers are NaN or infinite. {todo}"
            break
    unfit = [index for index, rows in sorted(seen.states.items()) if not rows.isfinite().all()]
    if unfit:
        state = f"state {unfit[0]} holds a NaN or an Inf. {todo}"
    return [
        Check("finite numbers", "every weight is finite", weight is None, weight or ""),
        Check("finite numbers", f"every state of {TOKENS} tokens is finite", state is None, state or ""),
    ]


def proof_tokens(subject: Subject) -> Tensor:
    """Two prompts that differ in their last token alone."""
    size = text_configuration(subject.model).vocab_size
    tokens = torch.randint(0, size, (1, TOKENS), generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    tokens[1, -1] = (tokens[0, -1] + size // 2) % size
    return tokens.to(subject.device)


def _gap(rows: Tensor, expected: Tensor) -> float:
    """Largest distance of two rows, relative to the row, over the rows that are finite; they must be the same ones."""
    rows, expected = (states.double().cpu().flatten(0, -2) for states in (rows, expected))
    usable = expected.isfinite().all(-1)
    if not torch.equal(usable, rows.isfinite().all(-1)):
        return torch.inf
    rows, expected = rows[usable], expected[usable]
    gaps = (rows - expected).norm(dim=-1) / expected.norm(dim=-1).clamp(min=1e-30)
    return float(gaps.max()) if len(gaps) else 0.0


def _states_and_attention(subject: Subject, tokens: Tensor, seen: _Recorder, hidden: tuple[Tensor, ...]) -> list[Check]:
    last, limit = len(subject.parts.blocks), tolerance(subject.model.dtype, TOLERANCE)
    same, end = _own_gaps(subject, [seen.states[index] for index in range(last + 1)], hidden)
    plain, edited = _own_and_edited_states(subject, tokens)
    # in the model's own run too: streamed attention is causal whatever the model is
    later = max(_gap(state[0, :-1], state[1, :-1]) for state in (*seen.states.values(), *plain))
    apart = max(_gap(state, without) for state, without in zip(hidden, plain, strict=True))
    moved = _gap(edited, plain[-1][-1:])
    name: Capability = "states and attention"
    return [
        Check(name, "later tokens change no earlier state", later <= limit, f"largest change {later:.1e}"),
        Check(name, f"states 0..{last - 1} are Hugging Face's own", same <= SAME, f"largest gap {same:.1e}"),
        Check(name, "final norm of X(L) is its last state", end <= SAME, f"gap {end:.1e}"),
        Check(name, "streamed attention changes no state", apart <= limit, f"largest change {apart:.1e}"),
        _maps(subject, tokens, seen, plain[-1]),
        Check(name, "an edit moves the output", moved > 1e-3 or not edited.isfinite().all(), f"moved by {moved:.1e}"),
    ]


def _own_gaps(subject: Subject, states: Sequence[Tensor], hidden: Sequence[Tensor]) -> tuple[float, float]:
    """How far states 0..L-1, and the final norm of X(L), are from what Hugging Face gives of the same pass."""
    *before, last = states
    after = subject.parts.final_norm
    same = max(_gap(state, own) for state, own in zip(before, hidden[:-1], strict=True))
    return same, _gap(last if after is None else after(last), hidden[-1])


@torch.no_grad()
def proved_states(subject: Subject, tokens: Int[Tensor, "batch token"]) -> list[Float[Tensor, "batch token width"]]:
    """X(0..L) of a few short prompts, from one pass that proves them to be the model's own.

    Raises:
        ProofError: they are not; ``thalweg verify`` says more.
    """
    states = list[Tensor]()
    with watch_states(subject, lambda _, state: states.append(state.clone())):
        output = subject.parts.body(input_ids=tokens, use_cache=False, output_hidden_states=True, return_dict=True)
    hidden = output.hidden_states or ()
    gaps = _own_gaps(subject, states, hidden) if len(states) == len(hidden) > len(subject.parts.blocks) else (math.inf,)
    if not max(gaps) <= SAME:
        raise ProofError(
            f"what is seen of {type(subject.model).__name__} are not its own states (largest gap {max(gaps):.1e}). "
            "`thalweg verify` says which check fails, and where a row can be added."
        )
    return states


def _own_run(subject: Subject, tokens: Tensor, implementation: str, **options: bool) -> Any:
    with attention_implementation(subject.model, implementation):
        return subject.parts.body(
            input_ids=tokens, use_cache=False, output_hidden_states=True, return_dict=True, **options
        )


def _maps(subject: Subject, tokens: Tensor, seen: _Recorder, end: Tensor) -> Check:
    """Column mass and row entropy of every block against the model's own eager maps."""
    name = f"attention of {len(seen.statistics)} of {len(subject.parts.blocks)} blocks is the model's own"
    check = partial(Check, "states and attention", name)
    if not seen.statistics:
        return check(False, "no block's attention was seen")
    eager = _own_run(subject, tokens, "eager", output_attentions=True)
    shape = (2, TOKENS, TOKENS)
    maps = [m for m in eager.attentions or () if isinstance(m, Tensor) and (len(m), *m.shape[-2:]) == shape]
    if _gap(eager.hidden_states[-1], end) > tolerance(subject.model.dtype, TOLERANCE):
        return check(True, "its eager attention computes something else; states compared instead")
    if len(maps) != len(seen.statistics):
        return check(True, "it returns no maps for these blocks; states compared instead")
    gap = 0.0
    for block, eager_map in zip(sorted(seen.statistics), maps, strict=True):
        mine, projection = seen.statistics[block], subject.parts.blocks[block].projection
        if projection is not None and eager_map.shape[1] < mine.column_mass.shape[1]:
            eager_map = gathered(eager_map, projection)
        theirs = statistics_of_map(eager_map)
        for vector in ("column_mass", "row_entropy"):
            difference = getattr(mine, vector).double().cpu() - getattr(theirs, vector).double().cpu()
            gap = max(gap, float(difference.nan_to_num(0.0).square().mean().sqrt()))
    return check(gap <= tolerance(subject.model.dtype, MAP_TOLERANCE), f"largest gap of a block {gap:.1e}")


def _own_and_edited_states(subject: Subject, tokens: Tensor) -> tuple[list[Tensor], Tensor]:
    """Hugging Face's states of a pass of the model's own, and the last one of the last prompt with an edit on the way.

    The edited prompt runs beside the others: it is disturbed at its last position, after a middle block.
    """

    def disturb(_: Any, __: Any, output: Any) -> Any:
        state = unwrap(output)
        if state is None:
            return output
        edited = state.clone()
        edited[-1, -1] = edited[-1, -1].roll(1, -1)
        return rewrap(output, edited)

    middle = subject.parts.blocks[len(subject.parts.blocks) // 2].module
    with middle.register_forward_hook(disturb):
        implementation = subject.model.config._attn_implementation or "eager"
        hidden = _own_run(subject, torch.cat([tokens, tokens[-1:]]), implementation).hidden_states
    return [state[:-1] for state in hidden], hidden[-1][-1:]


def _additive(subject: Subject, tokens: Tensor) -> list[Check]:
    solved = additive_parts(subject, tokens)
    kinds = sorted({(part.attention or "?", part.mlp or "?", part.attention_scale, part.mlp_scale) for part in solved})
    worst, holds = max(part.error for part in solved), all(part.error <= part.limit for part in solved)
    sites = "; ".join(f"{a} x {x:g} + {m} x {y:g}" for a, m, x, y in kinds[:3])
    detail = f"{sites}; largest error {worst:.1e}"
    return [Check("additive parts", "input + attention + MLP = output in every block", holds, detail)]


def _unembedding(subject: Subject, tokens: Tensor) -> Check:
    check = partial(Check, "unembedding", "final norm and unembedding of X(L) are the model's logits")
    if subject.parts.unembedding is None:
        return check(False, "the model has no unembedding")
    solved = find_unembedding(subject, tokens)
    extras = f", scale {solved.scale:g}" + (f", soft cap {solved.softcap:g}" if solved.softcap else "")
    limit = tolerance(subject.model.dtype, UNEMBEDDING_TOLERANCE)
    return check(solved.error <= limit, f"largest gap {solved.error:.1e}{extras}")
