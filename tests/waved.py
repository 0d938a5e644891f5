"""A planted model of two segments, drawn at random: which MLPs write each of them, and which erase it, is known.

Neurons of their own write and erase shares of two vectors, a wave's and compress's, on the row of a trigger token, a
line break, which stands at another position in every prompt.
"""

import json
import math
import random
from dataclasses import dataclass

import torch

from thalweg.reference import Plant, byte_tokenizer, planted_llama

BLOCKS, WIDTH, NEURON = 12, 32, 2
TRIGGER = byte_tokenizer()("\n", add_special_tokens=False).input_ids[0]


@dataclass(frozen=True)
class Planted:
    """Of one segment: the values written, and by block the share that is written, or taken away again."""

    values: dict[int, float]
    writers: dict[int, float]
    erasers: dict[int, float]


def shares(draw, blocks, least=0.3):
    """Of consecutive blocks, each large enough that nine tenths need all of them."""
    if len(blocks) < 2:
        return dict.fromkeys(blocks, 1.0)
    first = draw.uniform(least, 1 - least)
    return dict(zip(blocks, (first, 1 - first), strict=True))


def drawn(seed):
    """A wave and compress, and the model in which they were planted."""
    draw = random.Random(seed)
    dims = draw.sample(range(WIDTH), 3)
    blocks = iter(range(draw.randint(0, 1), BLOCKS))

    def some(most):
        return [next(blocks) for _ in range(draw.randint(1, most))]

    found = []
    for size, own in ((60.0, dims[:1]), (3000.0, dims[1:])):
        values = {dim: size * draw.choice([-1, 1]) * WIDTH**0.5 / (1 + place) for place, dim in enumerate(own)}
        writers = shares(draw, some(2))
        for _ in range(draw.randint(0, 1)):
            next(blocks)
        found.append(Planted(values, writers, shares(draw, some(2))))
        next(blocks)
    return found, _model(found, seed)


@torch.no_grad()
def _model(segments, seed):
    dims = {dim: math.copysign(1.0, value) for segment in segments for dim, value in segment.values.items()}
    plant = Plant(0, None, dims, (0,), TRIGGER)  # as one direction, by which the row finds itself in either segment
    model = planted_llama(plant, blocks=BLOCKS, width=WIDTH, seed=seed, twin=True)
    mark = int(model.model.embed_tokens.weight[TRIGGER].abs().argmax())
    changes = [
        (block, sign * share, segment)
        for segment in segments
        for sign, own in ((1, segment.writers), (-1, segment.erasers))
        for block, share in own.items()
    ]
    for block, share, segment in sorted(changes, key=lambda change: change[0]):
        vector, mlp, seen = torch.zeros(WIDTH), model.model.layers[block].mlp, []
        vector[list(segment.values)] = torch.tensor(list(segment.values.values()))
        mlp.gate_proj.weight[NEURON] = vector / vector.norm() if share < 0 else torch.eye(WIDTH)[mark]
        mlp.up_proj.weight[NEURON] = mlp.gate_proj.weight[NEURON]
        with mlp.down_proj.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0])):
            model.model(torch.tensor([[TRIGGER]]), use_cache=False)
        mlp.down_proj.weight[:, NEURON] = share * vector / seen[0][0, 0, NEURON]
    return model


def save(path, model):
    """As a directory, with its tokenizer."""
    model.save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return str(path)


def prompts(path, seed, count=6):
    """Prompts with one line break each; gives its positions, the BOS token being the first."""
    draw, lines, positions = random.Random(seed), [], []
    for _ in range(count):
        text = "".join(draw.choice("abcdefgh ijklmn.") for _ in range(draw.randint(25, 60)))
        positions.append(draw.randrange(len(text)) + 1)
        lines.append({"text": f"{text[: positions[-1] - 1]}\n{text[positions[-1] - 1 :]}"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return positions
