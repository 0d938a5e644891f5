import hashlib
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from thalweg.errors import DataError
from thalweg.prompts import Row, Skipped, tokenization, tokenize

BOS, START, STOP = 0, 1, 2  # <|endoftext|>, <s>, </s>


def ids(tokenizer, text, **options):
    [prompt] = tokenize([Row(0, text)], tokenization(tokenizer, **options)).prompts
    return list(prompt.tokens)


@pytest.mark.parametrize(
    ("name", "auto", "always", "never"),
    [
        ("gpt2_like", ([], []), ([BOS], []), ([], [])),
        ("llama_like", ([START], []), ([START], []), ([], [])),
        ("both_ends", ([START], [STOP]), ([START], [STOP]), ([], [STOP])),
        ("mask_first", ([BOS, START], []), ([BOS, START], []), ([BOS], [])),
        ("eos_only", ([], [STOP]), ([START], [STOP]), ([], [STOP])),
    ],
)
def test_each_policy_changes_the_bos_and_nothing_else(request, name, auto, always, never):
    tokenizer = request.getfixturevalue(name)
    text = tokenizer("some text", add_special_tokens=False)["input_ids"]
    for policy, (front, back) in {"auto": auto, "always": always, "never": never}.items():
        assert ids(tokenizer, "some text", bos=policy) == front + text + back, policy


@pytest.mark.parametrize(
    ("name", "policy", "token", "added_by"),
    [
        ("gpt2_like", "auto", None, None),
        ("gpt2_like", "always", "<|endoftext|>", "thalweg"),
        ("llama_like", "auto", "<s>", "tokenizer"),
        ("llama_like", "always", "<s>", "tokenizer"),
        ("llama_like", "never", None, None),
        ("no_bos", "auto", None, None),
    ],
)
def test_what_stands_in_front_is_recorded(request, name, policy, token, added_by):
    bos = tokenization(request.getfixturevalue(name), bos=policy).bos
    assert (bos.policy, bos.token, bos.added_by) == (policy, token, added_by)
    assert (bos.token_id is None) == (token is None)


def test_a_bos_spelled_out_in_the_text_is_text(llama_like, gpt2_like):
    assert ids(llama_like, "<s>a", bos="never") == [START, *ids(llama_like, "a", bos="never")]
    assert ids(gpt2_like, "<|endoftext|>a", bos="never")[0] == BOS
    assert ids(gpt2_like, "<|endoftext|>a", bos="always")[:2] == [BOS, BOS]


def test_always_without_a_bos_token_is_refused(no_bos):
    with pytest.raises(DataError, match="--bos always: expected a tokenizer with a BOS token"):
        tokenization(no_bos, bos="always")
    assert ids(no_bos, "abc", bos="never") == ids(no_bos, "abc")


@pytest.mark.parametrize(("max_length", "context", "kept"), [(4, None, 4), (4, 3, 3), (4, 99, 4), (1, None, 1)])
def test_prompts_are_cut_to_the_shorter_of_both_lengths_bos_included(llama_like, max_length, context, kept):
    how = tokenization(llama_like, max_length=max_length, context=context)
    [prompt] = tokenize([Row(0, "abcdefgh")], how).prompts
    assert prompt.truncated
    assert list(prompt.tokens) == llama_like("abcdefgh")["input_ids"][:kept]
    assert prompt.text == "abcdefgh"


def test_a_prompt_of_exactly_the_longest_length_is_not_truncated(both_ends):
    [prompt] = tokenize([Row(0, "abc")], tokenization(both_ends, max_length=5)).prompts
    assert (len(prompt), prompt.truncated, prompt.tokens[-1]) == (5, False, STOP)


def test_a_cut_prompt_ends_with_its_text(both_ends):
    assert STOP not in ids(both_ends, "abcdef", max_length=4)


@pytest.mark.parametrize("max_length", [0, -1])
def test_a_length_below_one_is_refused(gpt2_like, max_length):
    with pytest.raises(DataError, match=f"--max-length: expected 1 or more tokens; got {max_length}"):
        tokenization(gpt2_like, max_length=max_length)


def test_an_unknown_policy_is_refused(gpt2_like):
    with pytest.raises(DataError, match="expected auto, always or never; got maybe"):
        tokenization(gpt2_like, bos="maybe")


def test_rows_without_text_keep_their_reason_and_texts_of_no_tokens_are_skipped(llama_like):
    llama_like.backend_tokenizer.normalizer = normalizers.Replace("#", "")
    rows = [Row(4, "a"), Row(5, None, "empty text"), Row(6, "###"), Row(7, "b#")]
    result = tokenize(rows, tokenization(llama_like))
    assert [prompt.row for prompt in result.prompts] == [4, 7]
    assert result.skipped == (Skipped(5, "empty text"), Skipped(6, "no tokens"))


def test_no_rows_give_nothing(gpt2_like):
    assert tokenize([], tokenization(gpt2_like)).prompts == ()


def test_the_hash_is_that_of_the_whole_text(gpt2_like):
    [prompt] = tokenize([Row(0, "naïve — text")], tokenization(gpt2_like, max_length=2)).prompts
    assert prompt.sha256 == hashlib.sha256("naïve — text".encode()).hexdigest()


def test_a_long_text_causes_no_warning(gpt2_like, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level(logging.DEBUG):
        assert len(ids(gpt2_like, "x" * 50, max_length=8)) == 8  # the tokenizer's own limit is 16
    assert "longer than" not in caplog.text


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6),
    policy=st.sampled_from(["auto", "always", "never"]),
)
def test_tokenizing_together_equals_one_by_one(both_ends, texts, policy):
    how = tokenization(both_ends, bos=policy, max_length=12)
    rows = [Row(number, text) for number, text in enumerate(texts)]
    together = tokenize(rows, how)
    alone = [tokenize([row], how) for row in rows]
    assert together.prompts == tuple(prompt for result in alone for prompt in result.prompts)
    assert together.skipped == tuple(row for result in alone for row in result.skipped)


def test_a_real_tokenizer_under_each_policy(test_data):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(test_data / "models" / "stories260k")
    text = "Once upon a time, there was a little girl named Lily."
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids(tokenizer, text, bos="always") == [tokenizer.bos_token_id, *plain]
    assert ids(tokenizer, text, bos="never") == plain
    assert ids(tokenizer, text) == tokenizer(text)["input_ids"]
    assert ids(tokenizer, text, max_length=1024, context=8) == tokenizer(text)["input_ids"][:8]
