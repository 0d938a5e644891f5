"""The tokenizer is the folder's own, whatever class transformers takes for it."""

import json
import string

import pytest
import torch
import transformers as tf
from tokenizers import Tokenizer, models, normalizers

from saved import SIZES, llama, save
from thalweg.capture import identify_model
from thalweg.errors import ModelError

TEXT = "a cat sat on a mat"


@pytest.fixture
def swapped(tmp_path):
    """A Qwen2 with a tokenizer as SentencePiece makes them, for which transformers has another class."""
    words = ["<s>", "▁", *string.printable, *"ïéé你好Приветàáâ", "at", "▁a"]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("a", "t"), ("▁", "a")], unk_token="<s>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens(["<s>"])
    torch.manual_seed(0)
    model = tf.Qwen2ForCausalLM(tf.Qwen2Config(**SIZES, num_key_value_heads=2, max_position_embeddings=64))
    save(model, tmp_path, tokenizer=False)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "model_max_length": 64}))
    return tmp_path


def test_a_class_swapped_tokenizer_gives_the_tokens_of_the_folder(swapped):
    own = Tokenizer.from_file(str(swapped / "tokenizer.json"))
    other = tf.AutoTokenizer.from_pretrained(swapped)
    assert other(TEXT)["input_ids"] != own.encode(TEXT).ids  # what this is for
    found = identify_model(str(swapped)).tokenizer
    assert found(TEXT)["input_ids"] == own.encode(TEXT).ids
    assert found.bos_token == "<s>"


def test_one_that_cannot_be_had_is_refused(swapped, monkeypatch):
    other = tf.AutoTokenizer.from_pretrained(swapped)
    monkeypatch.setattr("thalweg.capture._tokenizer.PreTrainedTokenizerFast.from_pretrained", lambda *_, **__: other)
    with pytest.raises(ModelError, match=r"has a tokenizer.json that transformers reads as another tokenizer \(Qwen2"):
        identify_model(str(swapped))


def test_what_tells_no_lie_is_left_alone(tmp_path):
    path = save(llama(), tmp_path)
    plain = tf.AutoTokenizer.from_pretrained(path)
    found = identify_model(path).tokenizer
    assert type(found) is type(plain)
    assert found.init_kwargs.keys() == plain.init_kwargs.keys()
