"""How positions are known, how far they go, and that no number depends on which prompts share a batch."""

import numpy as np
import pytest
import torch
import transformers as tf

from families import CONTEXT, FAMILIES, GROUPED, HYBRIDS, VOCABULARY, tiny
from oracle import records
from thalweg.capture import positions_of, subject_of
from thalweg.engines import BatchOptions, run_shards
from thalweg.experiments._survey.batch import MeasureOptions, measure_batch
from thalweg.prompts import Prompt, Shard

KINDS = {
    **dict.fromkeys(("gpt2", "opt"), "learned"),
    **dict.fromkeys(("bloom", "mpt"), "alibi"),
    "jamba": "none",
}
SWITCH = 16
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [6.0] * 4,
    "original_max_position_embeddings": SWITCH,
    "factor": 4.0,
}


def changed(family, **options):
    torch.manual_seed(0)
    model = tf.AutoModelForCausalLM.from_config(family(**{**GROUPED, **options})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim >= 2:
                weight.mul_(3.0)
    return model


def long_phi3():
    return changed(tf.Phi3Config, original_max_position_embeddings=SWITCH, rope_parameters=dict(LONG))


def dynamic_llama():
    parameters = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    return changed(tf.LlamaConfig, max_position_embeddings=SWITCH, rope_parameters=parameters)


def prompts(*lengths):
    made = []
    for row, length in enumerate(lengths):
        tokens = torch.randint(2, VOCABULARY, (length,), generator=torch.Generator().manual_seed(row)).tolist()
        made.append(Prompt(row, tuple(tokens), "", "", truncated=False))
    return made


def rows(results):
    """Every number of some batches by prompt and place."""
    found = {}
    for result in results:
        for row in records(result.layers):
            found[row["prompt"], row["state"]] = [row[name] for name in ("entropy", "sigma1_sq", "sink_norm", "alpha")]
        columns = result.heads
        for place in range(len(columns["prompt"])):
            key = tuple(int(columns[name][place]) for name in ("prompt", "block", "head"))
            found[key] = [float(columns[name][place]) for name in ("sink_score", "mixing", "head_write_norm")]
    return found


def run(model, shard_prompts, **options):
    """The shard through the engine, as a survey runs it."""
    subject, results, batches = subject_of(model), [], []

    def measure(batch):
        batches.append([len(prompt) for prompt in batch])
        return measure_batch(subject, batch, MeasureOptions())

    run_shards(
        [Shard(0, len(shard_prompts), tuple(shard_prompts), ())],
        measure=measure,
        finish=lambda _, found: results.extend(found),
        options=BatchOptions(4096, switch=positions_of(model).switch, **options),
    )
    return rows(results), batches


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, values in one.items():
        np.testing.assert_allclose(values, other[key], rtol=2e-5, atol=1e-6, err_msg=str(key))


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_every_familys_positions_are_told(family):
    found = positions_of(tiny(family))
    assert found.kind == KINDS.get(family, "rope")
    assert found.context == (None if family == "bloom" else CONTEXT)  # MPT tables its biases
    assert found.switch is None


def test_falcon_may_have_linear_biases():
    model = changed(tf.FalconConfig, alibi=True, new_decoder_architecture=False, multi_query=True)
    found = positions_of(model)
    assert (found.kind, found.context) == ("alibi", None)


@pytest.mark.parametrize(
    ("family", "parameters", "switch"),
    [
        (tf.Phi3Config, LONG, 16),
        (tf.Phi3Config, {**LONG, "original_max_position_embeddings": 24}, 24),
        (tf.LlamaConfig, LONG, 16),
        (tf.LlamaConfig, {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}, CONTEXT),
        (tf.LlamaConfig, {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}, None),
        (tf.LlamaConfig, {"rope_type": "default", "rope_theta": 1e4}, None),
    ],
)
def test_the_switch_is_where_the_frequencies_change(family, parameters, switch):
    original = {"original_max_position_embeddings": switch} if family is tf.Phi3Config else {}
    model = changed(family, rope_parameters=dict(parameters), **original)
    assert positions_of(model).switch == switch


def test_a_switch_of_some_layers_alone_is_found():
    nested = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
    }
    model = changed(tf.Gemma3TextConfig, head_dim=8, sliding_window=5, rope_parameters=nested)
    assert positions_of(model).switch == CONTEXT


LENGTHS = (1, 9, 15, 16, 17, 18, 40, 64)


def test_long_rotary_embeddings_give_the_same_numbers_in_any_company():
    model = long_phi3()
    alone, _ = run(model, prompts(*LENGTHS), batch_size=1)
    together, batches = run(model, prompts(*LENGTHS))
    assert any(len(batch) > 1 for batch in batches)
    assert not any(min(batch) <= SWITCH < max(batch) for batch in batches)
    assert_same(together, alone)


def test_the_switch_is_needed():
    """A batch across it would change the numbers of its shorter prompts."""
    subject = subject_of(long_phi3())
    pair = prompts(9, 40)
    mixed = rows([measure_batch(subject, pair, MeasureOptions())])
    alone = rows([measure_batch(subject, [one], MeasureOptions()) for one in pair])
    with pytest.raises(AssertionError, match="Not equal"):
        assert_same(mixed, alone)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_dynamic_rotary_embeddings_give_the_same_numbers_in_any_order(order):
    """They grow beyond the context alone, where prompts are cut; up to it, they are what they were."""
    model = dynamic_llama()
    assert positions_of(model).context == positions_of(model).switch == SWITCH
    made = prompts(9, SWITCH - 1, SWITCH)
    alone = {}
    for prompt in made:
        alone |= rows([measure_batch(subject_of(dynamic_llama()), [prompt], MeasureOptions())])
    subject = subject_of(model)
    assert_same(rows([measure_batch(subject, [made[place]], MeasureOptions()) for place in order]), alone)
    together, _ = run(model, made)
    assert_same(together, alone)
