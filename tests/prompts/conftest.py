"""Tokenizers built in code: byte-level, one token a byte, with every habit of putting tokens around a text."""

import json
import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"


def byte_tokenizer(*, template=None, bos=END, eos=END, longest=16):
    """GPT-2's shape without merges; ``template`` is what its post-processor makes of a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([END, "<s>", "</s>", *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([END, "<s>", "</s>"])
    if template:
        ids = [(token, vocabulary[token]) for token in (END, "<s>", "</s>")]
        core.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=bos, eos_token=eos, model_max_length=longest)


@pytest.fixture
def gpt2_like():
    """Adds nothing; BOS and EOS are the same token."""
    return byte_tokenizer()


@pytest.fixture
def llama_like():
    """Puts a BOS in front."""
    return byte_tokenizer(template="<s> $A", bos="<s>", eos="</s>")


@pytest.fixture
def both_ends():
    """Puts a BOS in front and an EOS behind."""
    return byte_tokenizer(template="<s> $A </s>", bos="<s>", eos="</s>")


@pytest.fixture
def eos_only():
    """Puts an EOS behind, and has a BOS that it does not use."""
    return byte_tokenizer(template="$A </s>", bos="<s>", eos="</s>")


@pytest.fixture
def mask_first():
    """Puts another token before the BOS, as GLM does."""
    return byte_tokenizer(template="<|endoftext|> <s> $A", bos="<s>", eos="</s>")


@pytest.fixture
def no_bos():
    """Qwen's habit: there is no BOS token at all."""
    return byte_tokenizer(bos=None)


@pytest.fixture
def test_data():
    """The folder with real data and a real tokenizer."""
    folder = os.environ.get("THALWEG_TEST_DATA")
    if not folder:
        pytest.skip("THALWEG_TEST_DATA names no folder with real data")
    return Path(folder)


@pytest.fixture
def jsonl(tmp_path):
    """Write records, or lines given as text, to a .jsonl file."""

    def write(*records, name="data.jsonl"):
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        path = tmp_path / name
        path.write_text("".join(line + "\n" for line in lines))
        return str(path)

    return write
