"""One pass, any number of readers: each sees what it would see alone, and nothing is computed that nobody reads."""

from contextlib import nullcontext
from dataclasses import asdict

import pytest
import torch

from families import BLOCKS, VOCABULARY, WIDTH, hooks, tiny
from thalweg.capture import _interface, subject_of
from thalweg.errors import ModelError, OverflowInFloat16
from thalweg.experiments import _pass as module
from thalweg.experiments._pass import Reduced, SinkRows, lengths_of, read
from thalweg.interventions import Remove, Replace
from thalweg.metrics import SinkRow, sink_row
from thalweg.prompts import Prompt

LENGTHS = (9, 5, 1)
TOKENS = torch.randint(2, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(0))
BATCH = [
    Prompt(row, tuple(tokens[:length]), "", "", truncated=False)
    for row, (tokens, length) in enumerate(zip(TOKENS.tolist(), LENGTHS, strict=True))
]


class Failure(Exception):
    """Raised on purpose."""


class States:
    """Copies every prompt's own rows."""

    def __init__(self, events=None):
        self.rows, self.events = [], [] if events is None else events

    def state(self, index, seen, /):
        self.events.append(("state", index))
        self.rows += [rows.clone() for rows in seen.prompts]


class Heads:
    """Copies what columns of attention sum to."""

    def __init__(self, events=None):
        self.rows, self.events = [], [] if events is None else events

    def attention(self, block, seen, /):
        self.events.append(("attention", block))
        self.rows.append(seen.statistics.column_mass.clone())


class Parts:
    """Keeps what is added."""

    def __init__(self, events=None):
        self.rows, self.events = [], [] if events is None else events

    def contribution(self, block, part, rows, /):
        self.events.append((part, block))
        self.rows.append(rows)


class Everything(States, Heads, Parts):
    """All three methods in one reader."""


@pytest.fixture(scope="module", params=["llama", "falcon", "bloom", "gpt2"])
def subject(request):
    return subject_of(tiny(request.param))


@pytest.fixture(scope="module")
def llama():
    return subject_of(tiny("llama"))


def same(first, second):
    assert len(first) == len(second) > 0
    return all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def seen_by(subject, *readers, **options):
    read(subject, BATCH, *readers, **options)
    return [reader.rows for reader in readers]


def test_readers_in_one_pass_see_what_each_sees_alone(subject):
    for kind, others in ((States, (States,)), (Heads, (States, Heads)), (Parts, (States, Parts))):
        (alone,) = seen_by(subject, kind())
        together = seen_by(subject, kind(), *(other() for other in others))
        assert same(together[0], alone)
        for other, rows in zip(others, together[1:], strict=True):
            if other is kind:
                assert same(rows, alone)


def test_states_are_those_of_the_pass_whoever_reads_beside_them(subject):
    """Contributions leave the model's own attention alone; with attention it is the streamed one."""
    (alone,) = seen_by(subject, States())
    assert same(seen_by(subject, States(), Parts())[0], alone)
    streamed, _ = seen_by(subject, States(), Heads())
    assert same(seen_by(subject, Heads(), States(), States())[1], streamed)
    for state, other in zip(streamed, alone, strict=True):
        torch.testing.assert_close(state, other, rtol=1e-4, atol=1e-4)


def test_every_reader_is_shown_every_thing_once_in_the_order_of_the_model(subject):
    events = []
    seen_by(subject, Everything(events))
    assert [event for event in events if event[0] == "state"] == [("state", index) for index in range(BLOCKS + 1)]
    for block in range(BLOCKS):
        inside = events[events.index(("state", block)) + 1 : events.index(("state", block + 1))]
        assert sorted(inside) == [("attention", block), ("attention", block), ("mlp", block)]
    everything, several = Everything(), [States(), Heads(), Parts()]
    read(subject, BATCH, everything)
    rows = seen_by(subject, *several)
    assert len(everything.rows) == sum(map(len, rows)) == len(BATCH) * (BLOCKS + 1) + BLOCKS + 2 * BLOCKS


def test_a_prompt_is_its_own_rows_without_padding(llama):
    kept = []

    def reduced(index, seen):
        assert torch.equal(seen.lengths, lengths_of(BATCH))
        assert seen.padded.shape == (3, 9, WIDTH)
        for rows, padded, length in zip(seen.prompts, seen.padded, LENGTHS, strict=True):
            assert rows.shape == (length, WIDTH)
            assert torch.equal(rows, padded[:length])
            assert rows.data_ptr() == padded.data_ptr()
        kept.append(index)
        return seen.prompts[1].clone()

    reader = Reduced(reduced)
    read(llama, BATCH, reader)
    assert kept == list(range(BLOCKS + 1))
    with torch.no_grad():
        theirs = llama.model(torch.tensor([BATCH[1].tokens]), output_hidden_states=True).hidden_states
    for rows, expected in zip(reader.rows[:-1], theirs[:-1], strict=True):  # their last comes after the final norm
        torch.testing.assert_close(rows, expected[0], rtol=1e-5, atol=1e-5)


def test_the_sinks_rows_are_those_of_the_states(llama):
    positions = torch.tensor([[0, length - 1, -1] for length in LENGTHS])
    sink, states = SinkRows(BATCH, positions), States()
    read(llama, BATCH, sink, states)
    for number, chosen in enumerate(positions.tolist()):
        own = states.rows[number :: len(BATCH)]
        for place, position in enumerate(chosen):
            rows, stand_out = sink.of(number, place)
            assert rows.dtype == torch.float64
            if position >= 0:
                assert torch.equal(rows, torch.stack([state[position] for state in own]).double())
                for found, state in zip(stand_out, own, strict=True):
                    expected = sink_row(state, sink_position=position)
                    assert asdict(found) == pytest.approx(asdict(expected), rel=0, abs=0, nan_ok=True)
            else:
                assert rows.isnan().all()
                assert all(isinstance(row, SinkRow) and row.sink_norm != row.sink_norm for row in stand_out)


@pytest.mark.parametrize("kind", [States, Parts])
def test_a_pass_without_a_reader_of_attention_streams_none(llama, monkeypatch, kind):
    def refused(*_, **__):
        raise Failure

    seen_by(llama, kind())  # proofs, made once for a model, stream
    monkeypatch.setattr(_interface, "streamed_attention", refused)
    assert seen_by(llama, kind())[0]
    with pytest.raises(Failure):
        read(llama, BATCH, kind(), Heads())


@pytest.mark.parametrize(("kind", "method"), [(States, "state"), (Heads, "attention"), (Parts, "contribution")])
def test_a_reader_that_fails_leaves_nothing_behind(subject, kind, method):
    with torch.no_grad():  # transformers leaves idle hooks of its own the first time
        subject.model(TOKENS, use_cache=False, output_hidden_states=True, output_attentions=True)
        before = hooks(subject.model), subject.model(TOKENS, use_cache=False).logits

    def fail(*_):
        assert hooks(subject.model) > before[0]
        raise Failure

    reader = kind()
    setattr(reader, method, fail)
    with pytest.raises(Failure):
        read(subject, BATCH, States(), reader, interventions=[Replace([1], 0.0, [0])])
    assert hooks(subject.model) == before[0]
    with torch.no_grad():
        assert torch.equal(subject.model(TOKENS, use_cache=False).logits, before[1])


@pytest.mark.parametrize("others", [(), (Heads,)])
def test_an_overflow_is_refused_before_anyone_reads_the_state(others):
    first, second = States(), States()
    readers = first, second, *(kind() for kind in others)
    with pytest.raises(OverflowInFloat16, match="state 2 holds an Inf: float16 ends at 65504"):
        read(subject_of(tiny("llama").half()), BATCH, *readers, interventions=[Replace([2], float("inf"), [0])])
    assert all(index <= BLOCKS for _, index in first.events)
    assert first.events == second.events


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_inf_of_padding_or_of_another_type_is_no_overflow(dtype):
    states, state = States(), torch.zeros(2, 3, 4, dtype=dtype)
    state[1, 2] = torch.inf
    shown = module._Shown([states], torch.tensor([3, 2]), state.device)
    shown.state(0, state)
    shown.refuse_overflow()
    assert [len(rows) for rows in states.rows] == [3, 2]
    state[1, 1] = torch.inf
    shown.state(1, state)
    with pytest.raises(OverflowInFloat16, match="state 1 ") if dtype == torch.float16 else nullcontext():
        shown.refuse_overflow()


def test_readers_see_the_model_changed_and_then_it_is_what_it_was(subject):
    (before,) = seen_by(subject, States())
    (changed,) = seen_by(subject, States(), interventions=[Replace([1], 0.0, [0])])
    size = len(BATCH)
    assert same(changed[:size], before[:size])
    for rows, plain in zip(changed[size : 2 * size], before[size : 2 * size], strict=True):
        assert not rows[0].any()
        assert torch.equal(rows[1:], plain[1:])
    assert not torch.equal(changed[2 * size], before[2 * size])
    assert same(seen_by(subject, States())[0], before)


def test_what_is_removed_is_not_contributed(llama):
    (rows,) = seen_by(llama, Parts(), interventions=[Remove("mlp", [1], [0])])
    assert [not written.any() for written in rows] == [False, False, False, True, False, False]


def test_contributions_are_read_at_the_positions_asked_for(llama):
    (rows,) = seen_by(llama, Parts(), positions=[0, 4])
    (first,) = seen_by(llama, Parts())
    assert all(part.shape == (3, 2, WIDTH) for part in rows)
    assert same([part[:, :1] for part in rows], first)


def test_every_prompt_can_be_asked_at_positions_of_its_own(llama):
    last = [length - 1 for length in LENGTHS]
    (rows,) = seen_by(llama, Parts(), positions=torch.tensor([[0, last[0]], [-1, last[1]], [99, last[2]]]))
    (every,) = seen_by(llama, Parts(), positions=range(max(LENGTHS)))
    for part, whole in zip(rows, every, strict=True):
        assert torch.equal(part[0, 0], whole[0, 0])
        assert part[1:, 0].isnan().all()
        assert torch.equal(part[:, 1], whole[range(len(BATCH)), last])


def test_a_token_without_a_row_is_refused_before_anything_runs(llama):
    states = States()
    with pytest.raises(ModelError, match=rf"token {VOCABULARY}, but the model's embedding has {VOCABULARY} rows"):
        read(llama, [Prompt(0, (1, VOCABULARY), "", "", truncated=False)], states)
    assert states.rows == []
