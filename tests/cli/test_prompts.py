"""What a survey says of its prompts: two BOS tokens, rows skipped, conversations, a random sample."""

import json

import pytest
from transformers import AutoTokenizer

from saved import llama, save
from thalweg.store import open_run


@pytest.fixture(scope="module")
def with_bos(tmp_path_factory):
    """A tiny model whose tokenizer puts a BOS in front, and has a chat template that writes one."""
    from tokenizers import processors

    path = save(llama(), tmp_path_factory.mktemp("models") / "bos")
    tokenizer = AutoTokenizer.from_pretrained(path)
    bos = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
    )
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(path)
    return path, bos


@pytest.fixture
def rows(tmp_path):
    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def test_prompts_that_begin_with_two_are_counted_with_what_to_do(thalweg, with_bos, rows, tmp_path):
    model, bos = with_bos
    path = rows(
        "exported.jsonl",
        [{"text": f"{bos}{row} green bottles of water"} for row in range(5)] + [{"text": "plain text"}],
    )
    twice = thalweg("survey", model, "--data", path, "--out", tmp_path / "twice")
    said = (
        f"5 of 6 prompts of exported.jsonl begin with {bos} twice: the text has one already. Measure with --bos never"
    )
    assert twice.err.startswith(said)
    assert open_run(tmp_path / "twice").coverage[0].bos_twice == 5
    thalweg("report", tmp_path / "twice")
    page = (tmp_path / "twice" / "report.html").read_text(encoding="utf-8")
    assert "begin with the BOS token twice" in page
    assert "5 of 6 prompts of exported.jsonl begin with" in page
    never = thalweg("survey", model, "--data", path, "--bos", "never", "--out", tmp_path / "never")
    assert never.err == ""


def test_rows_that_give_no_prompt_are_told_with_their_reasons(thalweg, with_bos, rows, tmp_path):
    path = rows("gaps.jsonl", [{"id": 1}, {"text": "green bottles of water"}, {"text": " "}, {"text": 5}, {"id": 2}])
    outcome = thalweg("survey", with_bos[0], "--data", path, "--out", tmp_path / "run")
    reasons = "empty text: 1, field is not text: 1, field missing: 2"
    assert outcome.err == f"4 of 5 rows of gaps.jsonl gave no prompt: {reasons}.\n"


def test_conversations_are_read_by_the_chat_template(thalweg, with_bos, rows, tmp_path):
    model, bos = with_bos
    talk = [{"role": "user", "content": "How many bottles?"}, {"role": "assistant", "content": "Ten green ones."}]
    path, out = rows("talks.jsonl", [{"messages": talk}] * 3), tmp_path / "run"
    assert (done := thalweg("survey", model, "--data", path, "--chat", "--keep-text", "--out", out)).err == "", done
    text = "user: How many bottles?\nassistant: Ten green ones.\n"
    prompts = open_run(out).prompts.collect()
    assert prompts["text"].to_list() == [bos + text] * 3
    assert prompts["tokens"].to_list() == [1 + len(text)] * 3
    header = open_run(out).header
    assert (header.data[0].template, header.models[0].bos_token) == ("chat template of {messages}", bos)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template += " "
    tokenizer.save_pretrained(model)  # another template makes other prompts
    said = thalweg("survey", model, "--data", path, "--chat", "--keep-text", "--limit", 4, "--out", out).complaint
    assert "chat_template of" in said


def test_what_is_no_conversation_is_refused_in_one_line(thalweg, with_bos, model, data, rows, tmp_path):
    talks = rows("talks.jsonl", [{"messages": [{"role": "user", "content": "a"}]}])
    out = ("--out", tmp_path / "run")
    assert "expected a field messages" in thalweg("survey", with_bos[0], "--data", data, "--chat", *out).complaint
    assert "expected a tokenizer with a chat" in thalweg("survey", model, "--data", talks, "--chat", *out).complaint
    said = thalweg("survey", model, "--data", talks, "--text-field", "messages.0.content.text", *out).complaint
    assert "got none (rows skipped: field is text, which has no parts: 1). Change --text-field" in said


def test_a_sample_is_part_of_the_run_and_is_resumed(thalweg, model, data, tmp_path, monkeypatch):
    asked = ("survey", model, "--data", data, "--sample", 12, "--seed", 5, "--out", tmp_path / "run")
    first = thalweg(*asked)
    assert (first.code, first.err) == (0, "prompts.jsonl: a random sample, 12 of 70 rows, seed 5.\n")
    run = open_run(tmp_path / "run")
    drawn = run.prompts.collect()["prompt"].to_list()
    assert (len(drawn), run.coverage[0].rows_read, run.coverage[0].prompts_kept) == (12, 12, 12)
    monkeypatch.setattr("thalweg.experiments._over_prompts.load_model", lambda *_: pytest.fail("loaded again"))
    assert thalweg(*asked) == first
    for other in (("--seed", 6), ("--limit", 60), ("--sample", 13)):
        assert "sample of prompts.jsonl: run has 12 of 70 rows, seed 5, asked for" in thalweg(*asked, *other).complaint


def test_a_sample_that_was_stopped_goes_on_with_the_same_rows(model, data, tmp_path, monkeypatch):
    import thalweg as library
    from thalweg.store import FindingsWriter

    asked = library.SurveyOptions(sample=10, seed=2, shard_rows=3)
    whole = library.survey(model, data, out=tmp_path / "whole", options=asked)
    written, write = [], FindingsWriter.write_part

    def stopped(*given, **named):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(write(*given, **named))

    monkeypatch.setattr(FindingsWriter, "write_part", stopped)
    with pytest.raises(KeyboardInterrupt):
        library.survey(model, data, out=tmp_path / "stopped", options=asked)
    monkeypatch.undo()
    assert library.open_run(tmp_path / "stopped").prompts.collect().height == 6
    again = library.survey(model, data, out=tmp_path / "stopped", options=asked)
    assert again.layers.collect().equals(whole.layers.collect())
    assert again.coverage[0].rows_read == 10


def test_a_sample_of_nothing_is_refused_and_a_large_one_takes_all(thalweg, model, data, tmp_path):
    out = ("--data", data, "--out", tmp_path / "run")
    assert "--sample must be at least 1" in thalweg("survey", model, "--sample", 0, *out).complaint
    large = thalweg("survey", model, "--sample", 1000, *out)
    assert large.err == "prompts.jsonl: a random sample, 70 of 70 rows, seed 0.\n"
    assert open_run(tmp_path / "run").prompts.collect().height == 70
