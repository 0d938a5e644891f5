"""Conversations by the tokenizer's own chat template; the oracle is transformers' ids of the same messages."""

import pytest

from thalweg.errors import DataError
from thalweg.prompts import Row, open_source, tokenization, tokenize

ASKED = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
NO_PARTS = "field is text, which has no parts"
WITH_BOS = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
WITHOUT = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
STRICT = "{% if messages[0].role != 'user' %}{{ raise_exception('begin with the user') }}{% endif %}" + WITH_BOS


def prompt(tokenizer, messages=ASKED, **options):
    [made] = tokenize([Row(0, None, messages=messages)], tokenization(tokenizer, chat=True, **options)).prompts
    return made


@pytest.mark.parametrize("template", [WITH_BOS, WITHOUT])
def test_a_conversation_is_what_transformers_makes_of_it(llama_like, template):
    llama_like.chat_template = template
    made = prompt(llama_like)
    assert list(made.tokens) == llama_like.apply_chat_template(ASKED, tokenize=True)["input_ids"]
    assert made.text == llama_like.apply_chat_template(ASKED, tokenize=False)
    assert not made.bos_twice


@pytest.mark.parametrize(
    ("template", "policy", "first", "added_by"),
    [
        (WITH_BOS, "auto", 1, "chat template"),
        (WITH_BOS, "always", 1, "chat template"),
        (WITH_BOS, "never", 0, None),
        (WITHOUT, "auto", 0, None),
        (WITHOUT, "always", 1, "thalweg"),
        (WITHOUT, "never", 0, None),
    ],
)
def test_the_policy_changes_the_bos_and_nothing_else(llama_like, template, policy, first, added_by):
    llama_like.chat_template = template
    how = tokenization(llama_like, bos=policy, chat=True)
    plain = llama_like("[user]hello[assistant]hi", add_special_tokens=False)["input_ids"]
    assert list(prompt(llama_like, bos=policy).tokens) == [1] * first + plain
    assert (how.bos.added_by, how.bos.token) == (added_by, "<s>" if first else None)


def test_messages_that_the_template_refuses_are_skipped_with_its_reason(llama_like):
    llama_like.chat_template = STRICT
    rows = [Row(0, None, messages=ASKED), Row(1, None, messages=ASKED[1:])]
    result = tokenize(rows, tokenization(llama_like, chat=True))
    assert [made.row for made in result.prompts] == [0]
    assert [(skipped.row, skipped.reason) for skipped in result.skipped] == [
        (1, "refused by the chat template: begin with the user")
    ]


def test_a_tokenizer_without_a_template_is_refused(llama_like):
    with pytest.raises(DataError, match=r"--chat: expected a tokenizer with a chat template; got one without"):
        tokenization(llama_like, chat=True)
    llama_like.chat_template = "{% for"
    with pytest.raises(DataError, match=r"--chat: expected a chat template that works"):
        tokenization(llama_like, chat=True)


def test_rows_are_conversations_or_say_why_not(jsonl):
    lines = [{"id": 1}, {"messages": ASKED}, {"messages": []}, {"messages": "hello"}, {"messages": [{"content": "a"}]}]
    source = open_source(jsonl(*lines), chat=True)
    assert source.template == "chat template of {messages}"
    rows = list(source.rows())
    assert rows[1].messages == ASKED
    assert [row.reason for row in rows] == ["field missing", None, *["no messages with a role each"] * 3]
    nested = open_source(jsonl({"data": {"talk": ASKED}}, name="nested.jsonl"), chat=True, text_field="data.talk")
    assert next(nested.rows()).messages == ASKED


def test_rows_without_messages_are_refused(jsonl, tmp_path):
    with pytest.raises(DataError, match=r"--chat: expected a field messages with a list of messages"):
        open_source(jsonl({"text": "a"}), chat=True)
    (tmp_path / "plain.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"--chat: expected a field messages"):
        open_source(str(tmp_path / "plain.txt"), chat=True)


@pytest.mark.parametrize(
    ("name", "policy", "text", "twice"),
    [
        ("llama_like", "auto", "<s>a", True),
        ("llama_like", "auto", "a<s>", False),
        ("llama_like", "auto", "<s>", True),
        ("llama_like", "never", "<s>a", False),
        ("mask_first", "auto", "<s>a", True),
        ("gpt2_like", "auto", "<|endoftext|>a", False),
        ("gpt2_like", "always", "<|endoftext|>a", True),
        ("no_bos", "auto", "<s><s>", False),
    ],
)
def test_a_text_that_begins_with_the_bos_is_noticed(request, name, policy, text, twice):
    tokenizer = request.getfixturevalue(name)
    [made] = tokenize([Row(0, text)], tokenization(tokenizer, bos=policy)).prompts
    assert made.bos_twice == twice


@pytest.mark.parametrize(
    ("field", "reasons"),
    [
        ("messages.0.content", [None, "field missing", NO_PARTS]),
        ("messages.1.content", ["field missing", "field missing", NO_PARTS]),
        (
            "messages.0.content.0",
            ["field is text, which has no parts", "field missing", NO_PARTS],
        ),
        ("messages.0", ["field is not text", "field missing", NO_PARTS]),
        ("messages.-1.content", ["field missing", "field missing", NO_PARTS]),
    ],
)
def test_a_number_reaches_into_a_list(jsonl, field, reasons):
    lines = [{"messages": ASKED[:1]}, {"messages": []}, {"messages": "a text"}]
    rows = list(open_source(jsonl(*lines), text_field=field).rows())
    assert [row.reason for row in rows] == reasons
    assert rows[0].text in (None, "hello")


def test_a_field_is_missing_only_where_every_row_lacks_it(jsonl):
    path = jsonl(*[{"id": row} for row in range(100)], {"id": 100, "note": "a"}, {"id": 101, "text": "b"})
    assert [row.text for row in open_source(path).rows()][-2:] == [None, "b"]
    assert [row.text for row in open_source(path, text_field="note").rows()][-2:] == ["a", None]
    with pytest.raises(DataError, match=r"no field 'nota'; got the fields id, note, text. Did you mean"):
        open_source(path, text_field="nota")


LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
IMPORTS = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{% import 'os' as os %}{{ os.system('x') }}",
    "{% include '/etc/passwd' %}",
    "{{ cycler.__init__.__globals__.os.system('x') }}",
    "{{ raise_exception.__globals__ }}",
)


def test_a_template_that_never_ends_is_stopped(llama_like, monkeypatch):
    monkeypatch.setattr("thalweg.prompts._tokens.PATIENCE", 0.2)
    llama_like.chat_template = LOOPS
    with pytest.raises(DataError, match=r"template that works; got: .* after 0\.2 seconds"):
        tokenization(llama_like, chat=True)


@pytest.mark.parametrize("template", IMPORTS)
def test_a_template_reaches_nothing_but_the_conversation(llama_like, template):
    llama_like.chat_template = template
    with pytest.raises(DataError, match="expected a chat template that works"):
        tokenization(llama_like, chat=True)
