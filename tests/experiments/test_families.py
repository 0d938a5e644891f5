"""Every number in ``layers`` and ``heads`` equals the naive computation, for every family, alone and in mixed batches.

Tolerances. Entropies: 1e-5 relative or 1e-7 absolute. Attention: 1e-5 absolute, svi where B + D > 1e-3, norms 1e-5
relative. Other columns of a state: 4e-5 relative, since eager and streamed attention round differently in float32 and
the difference passes through every block; alpha, a share that can be 1e-6, also within 1e-7.
"""

import math

import numpy as np
import pytest
import torch

from families import BLOCKS, CONTEXT, FAMILIES, HYBRIDS, VOCABULARY, tiny, window_of
from oracle import Recording, head_row, layer_row, records
from thalweg.capture import PROVED, subject_of
from thalweg.experiments._survey.batch import MeasureOptions, measure_batch
from thalweg.prompts import Prompt

LENGTHS = (1, 2, 3, 10, 29, CONTEXT)
ENTROPIES = ("entropy", "entropy_normalized", "entropy_bound", "entropy_bound_weak")
NORMS = ("sink_value_norm", "rest_value_norm", "sink_key_norm", "rest_key_norm", "head_write_norm")


def prompt(length: int, row: int) -> Prompt:
    generator = torch.Generator().manual_seed(row)
    tokens = torch.randint(2, VOCABULARY, (length,), generator=generator).tolist()
    return Prompt(row, tuple(tokens), "", "", truncated=False)


PROMPTS = [prompt(length, row) for row, length in enumerate(LENGTHS)]


@pytest.fixture(scope="module", params=[*FAMILIES, *HYBRIDS])
def family(request):
    model = tiny(request.param)
    return request.param, model, [Recording(model, torch.tensor(one.tokens)) for one in PROMPTS]


def rows(model, batches):
    """Rows by (prompt, state) and (prompt, block, head)."""
    subject = subject_of(model)
    layers, heads = {}, {}
    for batch in batches:
        measured = measure_batch(subject, batch, MeasureOptions())
        layers |= {(row["prompt"], row["state"]): row for row in records(measured.layers)}
        columns = measured.heads
        for index in range(len(columns["prompt"])):
            row = {name: column[index] for name, column in columns.items()}
            heads[row["prompt"], row["block"], row["head"]] = row
    return layers, heads


def close(found, expected, *, relative=0.0, absolute=0.0):
    if math.isnan(expected):
        return math.isnan(found)
    return found == expected or abs(found - expected) <= max(absolute, relative * abs(expected))


def check_layers(layers, recordings):
    for number, recording in enumerate(recordings):
        assert len(recording.states) == BLOCKS + 1
        for state, x in enumerate(recording.states):
            found = layers[number, state]
            for name, expected in layer_row(x).items():
                loose = name in ENTROPIES
                absolute = 1e-7 if loose or name == "alpha" else 0.0
                good = close(found[name], expected, relative=1e-5 if loose else 4e-5, absolute=absolute)
                assert good, (number, state, name, found[name], expected)


def check_heads(family, model, heads, recordings):
    for number, recording in enumerate(recordings):
        blocks = sorted({block for one, block, _ in heads if one == number})
        assert len(blocks) == len(recording.maps)
        for place, block in enumerate(blocks):
            attention, count = recording.maps[place], len(recording.maps[place])
            outputs, matrix = recording.outputs[place], recording.weights[place]
            breadth = outputs.shape[-1] // count
            shared = count // len(recording.keys[place])
            for head in range(count):
                part = slice(head * breadth, (head + 1) * breadth)
                expected = head_row(
                    attention[head],
                    recording.keys[place][head // shared],
                    recording.values[place][head // shared],
                    outputs[:, part],
                    matrix[:, part],
                    window=window_of(family, model, block),
                )
                found = heads[number, block, head]
                for name, value in expected.items():
                    if name == "svi" and expected["sink_score"] + expected["diagonal"] <= 1e-3:
                        continue
                    absolute, relative = (0.0, 1e-5) if name in NORMS else (1e-5, 0.0)
                    good = close(float(found[name]), value, absolute=absolute, relative=relative)
                    assert good, (number, block, head, name, found[name], value)


def test_every_number_of_one_prompt_alone_is_the_naive_one(family):
    name, model, recordings = family
    layers, heads = rows(model, [[one] for one in PROMPTS])
    check_layers(layers, recordings)
    check_heads(name, model, heads, recordings)


def test_every_number_in_a_mixed_batch_is_the_naive_one(family):
    name, model, recordings = family
    layers, heads = rows(model, [PROMPTS])
    check_layers(layers, recordings)
    check_heads(name, model, heads, recordings)


def test_the_list_of_proved_families_is_this_one():
    assert set(PROVED) == {*FAMILIES, *HYBRIDS}


def test_the_sink_token_may_be_another_one():
    model = tiny("llama")
    recording = Recording(model, torch.tensor(PROMPTS[-1].tokens))
    measured = measure_batch(subject_of(model), [PROMPTS[-1], PROMPTS[1]], MeasureOptions(sink_position=5))
    found = {(row["prompt"], row["state"]): row for row in records(measured.layers)}
    for state, x in enumerate(recording.states):
        expected = layer_row(x, s=5)
        for name in ("sink_norm", "rest_norm", "M", "alpha", "entropy_bound"):
            assert close(found[PROMPTS[-1].row, state][name], expected[name], relative=1e-4)
        assert math.isnan(found[PROMPTS[1].row, state]["sink_norm"])
    columns = measured.heads
    long = columns["prompt"] == PROMPTS[-1].row
    np.testing.assert_allclose(
        columns["sink_score"][long],
        [one[head].sum(0)[5] / CONTEXT for one in recording.maps for head in range(len(one))],
        atol=1e-5,
    )
