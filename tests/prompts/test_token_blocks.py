"""Running text in blocks: the tokens of the whole text, each once, with the policy's BOS in front of every block."""

import json

import pytest

from thalweg.errors import DataError
from thalweg.prompts import Window, is_running_text, open_source, token_blocks, tokenization
from thalweg.reference import byte_tokenizer

TEXTS = ["first line of it", "", "second", " ", "third and the last"]


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return open_source(str(path))


def all_tokens(found):
    return [
        token for shard in found.shards() for prompt in shard.prompts for token in prompt.tokens[len(found.front) :]
    ]


@pytest.mark.parametrize("length", [2, 5, 7, 1000])
@pytest.mark.parametrize("bos", ["never", "always"])
def test_blocks_are_the_whole_text_and_share_no_token(tokenizer, source, bos, length):
    how = tokenization(tokenizer, bos=bos)
    found = token_blocks(source, how, length=length)
    # blank rows are joined as empty ones, as Hugging Face's data set has them
    whole = tokenizer("\n\n".join(text.strip() and text for text in TEXTS), add_special_tokens=False)["input_ids"]
    blocks = [prompt for shard in found.shards(size=3) for prompt in shard.prompts]
    front = [tokenizer.bos_token_id] if bos == "always" else []
    assert all(list(block.tokens[: len(front)]) == front for block in blocks)
    assert [block.row for block in blocks] == list(range(found.count))
    assert all(len(block) == length for block in blocks[:-1])
    assert 2 <= len(blocks[-1]) <= length
    rest = len(whole) % (length - len(front))
    dropped = 1 if rest == 1 and not front else 0
    assert all_tokens(found) == whole[: len(whole) - dropped]


def test_a_text_file_is_taken_as_it_is(tokenizer, tmp_path):
    text = " = Title = \n\n one line\n another\n"
    (tmp_path / "a.txt").write_text(text)
    source = open_source(str(tmp_path / "a.txt"))
    assert is_running_text(source)
    how = tokenization(tokenizer, bos="never")
    assert all_tokens(token_blocks(source, how, length=6)) == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_limit_reads_no_more_than_it_needs_and_gives_the_same_blocks(tokenizer):
    source = open_source([f"row number {row}, with some words" for row in range(2000)])
    how = tokenization(tokenizer, bos="always")
    whole = token_blocks(source, how, length=16)
    read = []

    def counted(start, stop, rows=source.rows):
        for row in rows(start, stop):
            read.append(row)
            yield row

    object.__setattr__(source, "rows", lambda start=0, stop=None: counted(start, stop))
    part = token_blocks(source, how, length=16, limit=9)
    assert part.count == 9
    assert len(read) < 200
    assert [part.block(number) for number in range(9)] == [whole.block(number) for number in range(9)]


def test_blocks_that_are_done_are_passed_over(tokenizer, source):
    found = token_blocks(source, tokenization(tokenizer), length=5)
    rows = [prompt.row for shard in found.shards(size=4, done=[Window(0, 4)]) for prompt in shard.prompts]
    assert rows == list(range(4, found.count))


def test_rows_of_other_kinds_are_texts_of_their_own(source):
    assert not is_running_text(source)


@pytest.mark.parametrize(("length", "bos"), [(1, "never"), (1, "always"), (0, "never")])
def test_a_block_without_room_for_a_token_after_another_is_refused(tokenizer, source, length, bos):
    with pytest.raises(DataError, match="--block-length"):
        token_blocks(source, tokenization(tokenizer, bos=bos), length=length)


def test_texts_that_are_all_empty_are_refused(tokenizer, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": ""}) + "\n" + json.dumps({"text": "  "}) + "\n")
    with pytest.raises(DataError, match="at least one row with text"):
        token_blocks(open_source(str(path)), tokenization(tokenizer), length=8)
