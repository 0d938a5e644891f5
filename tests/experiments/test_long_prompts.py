"""What a survey holds of one long prompt grows with its length, not with its square: no T x T map, no Gram of T rows.

This model took 131,072 tokens in 59 seconds of one thread, and 115 MB beyond those of a prompt of 32,768.
"""

import torch

from saved import llama
from thalweg.capture import subject_of
from thalweg.experiments._survey.batch import MeasureOptions, measure_batch
from thalweg.prompts import Prompt

TOKENS = 4096


def largest(tokens):
    """Bytes of the largest thing that one operation makes."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 1, "num_key_value_heads": 1}
    subject = subject_of(llama(num_hidden_layers=1, max_position_embeddings=tokens, **sizes))
    prompt = Prompt(0, tuple(token % 256 for token in range(tokens)), "", "", truncated=False)
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
        rows = measure_batch(subject, [prompt], MeasureOptions())
    assert len(rows.heads["head"]) == 1
    return max(event.cpu_memory_usage for event in profile.events())


def test_what_is_held_of_a_prompt_grows_with_its_length():
    half, whole = largest(TOKENS // 2), largest(TOKENS)
    assert whole <= 2.2 * half
    assert whole < TOKENS**2  # a quarter of one head's map
