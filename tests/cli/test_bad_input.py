"""Whatever a person gets wrong is one line that says what to do, exit code 2, and costs nothing that was done."""

import errno
import json
import os
import subprocess
import sys

import pytest
import torch
import transformers as tf

from saved import SIZES, llama, save
from thalweg.reference import Plant, byte_tokenizer, planted_llama
from thalweg.store import open_run


@pytest.fixture
def survey(thalweg, model, tmp_path):
    """A survey of a good model into a new run."""

    def run(*argv, out=tmp_path / "run", of=model):
        return thalweg("survey", of, *argv, "--out", out)

    return run


NEEDING_PARTS = (["lens"], ["attribute"], ["clip", "--gamma", "1,2"], ["ablate", "--blocks", "0"])
DATA = {
    "broken line.jsonl": (
        '{"text": "a b c"}\n{"text": "d e f"}\n{"text": \n',
        "line 3: expected one JSON object a line",
    ),
    "empty.jsonl": ("", "expected at least one row"),
    "empty.txt": ("\n  \n", "expected at least one row"),
    "wrong field.jsonl": ('{"body": "x"}\n', "got the fields body. Name one with --text-field"),
    "no text.jsonl": ('{"text": ""}\n{"text": 7}\n', "got none (rows skipped: empty text: 1, field is not text: 1)"),
    "binary.jsonl": (bytes(range(256)), "expected UTF-8 text"),
    "binary.txt": (b"\x89PNG\r\n\x1a\n\x00\x00", "expected UTF-8 text"),
    "binary.parquet": (b"PAR1 and no more", "expected a whole Parquet file"),
    "table.csv": ("a,b\n", "expected a .jsonl, .parquet, .tsv or .txt file; got '.csv'"),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_cannot_be_read_is_refused(survey, tmp_path, name):
    content, words = DATA[name]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    complaint = survey("--data", path).complaint
    assert words in complaint
    assert name in complaint


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--data", "nowhere/prompts.jsonl"], "nowhere/prompts.jsonl: expected a .jsonl"),
        (["--data", "/tmp"], "got a folder"),
        (["--data", "gsm9k"], "Did you mean gsm8k?"),
        (["--text-field", "body"], "no field 'body'; got the fields text"),
        (["--whole-file"], "--whole-file: expected a .txt file"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--limit", "-3"], "--limit must be at least 1"),
        (["--limit", "9" * 30], "--limit must be at least 1 and at most"),
        (["--max-length", "0"], "--max-length must be at least 1"),
        (["--max-length", "-1"], "--max-length must be at least 1"),
        (["--batch-size", "0"], "--batch-size must be at least 1"),
        (["--batch-tokens", "-5"], "--batch-tokens must be at least 1"),
        (["--sink-position", "-1"], "--sink-position counts from 0"),
        (["--tau", "0"], "--tau is a share of attention"),
        (["--tau", "nan"], "--tau is a share of attention"),
        (["--massive-ratio", "1"], "--massive-ratio"),
        (["--massive-ratio", "inf"], "--massive-ratio"),
        (["--dtype", "float8"], "dtype 'float8' is unknown; expected auto, float32"),
        (["--device", "nonsense"], "device 'nonsense' cannot be used"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used"),
        (["--max-memory", "cpu"], "--max-memory expects PLACE=AMOUNT"),
        (["--device-map", "nonsense"], "nonsense"),
    ],
    ids=" ".join,
)
def test_an_option_that_makes_no_sense_is_refused(survey, data, tmp_path, argv, words):
    given = argv if argv[0] == "--data" else ["--data", data, *argv]
    complaint = survey(*given).complaint
    assert words in complaint
    if "--device" not in argv and "--device-map" not in argv:  # known before anything is begun
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("option", "what"), [("model", "MODEL"), ("data", "--data")])
def test_a_name_given_twice_is_refused(thalweg, model, data, tmp_path, option, what):
    argv = [model, model, "--data", data] if option == "model" else [model, "--data", data, "--data", data]
    assert f"{what} " in (complaint := thalweg("survey", *argv, "--out", tmp_path / "run").complaint)
    assert "is given twice; name each once." in complaint


KINDS = {
    "an encoder": (lambda: tf.BertForMaskedLM(tf.BertConfig(**SIZES)), "is an encoder (BertForMaskedLM)"),
    "an encoder-decoder": (
        lambda: tf.T5ForConditionalGeneration(
            tf.T5Config(d_model=32, d_ff=48, d_kv=8, num_layers=2, num_heads=4, vocab_size=258)
        ),
        "is an encoder-decoder (t5)",
    ),
    "a state-space model": (
        lambda: tf.MambaForCausalLM(tf.MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=258, state_size=4)),
        "(mamba) has no attention heads",
    ),
}


@pytest.mark.parametrize("verb", ["survey", "verify"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_another_kind_is_refused(thalweg, data, tmp_path, kind, verb):
    make, words = KINDS[kind]
    path = save(make(), tmp_path / "model")
    rest = ["--data", data, "--out", tmp_path / "run"] if verb == "survey" else []
    assert words in thalweg(verb, path, *rest).complaint
    assert not (tmp_path / "run").exists()


def test_pickled_weights_need_a_word(thalweg, model, data, tmp_path):
    path = save(llama(), tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save(llama().state_dict(), tmp_path / "model" / "pytorch_model.bin")
    complaint = thalweg("survey", path, "--data", data, "--out", tmp_path / "run").complaint
    assert "pass --allow-pickle if you trust them" in complaint
    for one, extra in ((path, ["--allow-pickle"]), (model, [])):
        argv = ["--data", data, "--limit", 3, "--out", tmp_path / f"run of {len(extra)}"]
        assert thalweg("survey", one, *argv, *extra).code == 0
    one, other = (open_run(tmp_path / f"run of {count}").layers.drop("model").collect() for count in (0, 1))
    assert one.equals(other)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./nowhere", "there is no directory ./nowhere"),
        ("/nowhere/at/all", "there is no directory /nowhere/at/all"),
        ("org/model", "the hub cannot be reached and org/model (main) is not in the local cache"),
        ("nobody-has-this", "the hub cannot be reached and nobody-has-this (main)"),
        ("two words", "neither a directory nor a hub id"),
    ],
)
def test_a_model_that_is_not_there_is_refused(survey, data, name, words):
    assert words in survey("--data", data, of=name).complaint


def test_a_tokenizer_of_another_model_is_refused(survey, data, tmp_path):
    other = save(llama(vocab_size=100, bos_token_id=0, eos_token_id=0), tmp_path / "model")
    complaint = survey("--data", data, of=other).complaint
    assert "has token 255" in complaint
    assert "embedding 100 rows" in complaint


def test_float16_that_overflows_names_the_way_out(thalweg, data, tmp_path):
    planted_llama(Plant(0, 2, {3: 200_000.0}, (0,)), blocks=4, width=32).save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    argv = ["survey", tmp_path / "model", "--data", data, "--limit", 2]
    complaint = thalweg(*argv, "--dtype", "float16", "--out", tmp_path / "run").complaint
    assert "Run again with --dtype bfloat16 or float32" in complaint
    assert open_run(tmp_path / "run").status == "failed"
    assert thalweg(*argv, "--dtype", "bfloat16", "--out", tmp_path / "other").code == 0


@pytest.mark.parametrize("verb", NEEDING_PARTS)
def test_float16_that_overflows_names_the_way_out_whoever_meets_it(verb, thalweg, data, tmp_path):
    planted_llama(Plant(0, 2, {3: 200_000.0}, (0,)), blocks=4, width=32).save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    name, *options = verb
    place = ["--data", data, "--limit", 2, "--out", tmp_path / "run", "--dtype", "float16"]
    complaint = thalweg(name, tmp_path / "model", *place, *options).complaint
    assert "--dtype bfloat16 or float32" in complaint
    assert "_families" not in complaint


def too_large(change):
    model = llama()
    with torch.no_grad():
        change(model.model.layers[0].mlp)
    return model


TOO_LARGE = {
    "a weight": (lambda mlp: mlp.down_proj.weight.mul_(1e6), "model.layers.0.mlp.down_proj.weight"),
    "a state": (lambda mlp: [part.weight.mul_(1e4) for part in (mlp.up_proj, mlp.down_proj)], "state 1"),
}


@pytest.mark.parametrize("what", TOO_LARGE)
@pytest.mark.parametrize("verb", NEEDING_PARTS)
def test_float16_that_no_model_fits_is_told_before_all_else(verb, what, thalweg, data, tmp_path):
    change, place = TOO_LARGE[what]
    save(too_large(change), tmp_path / "model")
    name, *options = verb
    argv = [name, tmp_path / "model", "--data", data, "--limit", 2, "--out", tmp_path / "run", "--dtype", "float16"]
    complaint = thalweg(*argv, *options).complaint
    assert place in complaint
    assert "--dtype bfloat16 or float32" in complaint
    assert "_families" not in complaint


LONG = ("a" * 300, "b/" * 3000)


def test_a_name_that_no_file_can_have_is_refused_wherever_it_is_given(thalweg, model, data, tmp_path):
    out = tmp_path / "run"
    for name in LONG:
        for argv in (
            ["survey", name, "--data", data, "--out", out],
            ["survey", model, "--data", f"{name}.jsonl", "--out", out],
            ["survey", model, "--data", data, "--out", name],
            ["lens", model, "--data", data, "--out", out, "--tuned", name],
            ["probe", model, "--data", f"{name}.tsv", "--out", out],
            ["mcq", model, "--task", "t", "--include-path", name, "--out", out],
            ["checkpoints", "--checkpoint-dir", name, "--data", data, "--out", out],
            ["report", name],
            ["figures", name],
            ["advise", name],
            ["verify", name],
        ):
            assert thalweg(*argv).complaint, argv


def test_a_broken_line_far_down_keeps_what_came_before(survey, tmp_path):
    data = tmp_path / "prompts.jsonl"
    lines = [json.dumps({"text": f"{row} bottles"}) for row in range(70)] + ["{"]
    data.write_text("\n".join(lines))
    assert "line 71" in survey("--data", data).complaint
    run = open_run(tmp_path / "run")
    assert run.status == "failed"
    assert run.prompts.collect()["prompt"].to_list() == list(range(64))


def test_a_run_of_an_earlier_format_is_refused_and_kept(survey, thalweg, data, tmp_path):
    assert survey("--data", data, "--limit", 2).code == 0
    file = tmp_path / "run" / "run.json"
    earlier = {"format": 1, "status": "finished", "models": [], "data": []}
    file.write_text(json.dumps(earlier))
    said = "was written by a development version of thalweg (format 1): measure it again, with another --out."
    looks = (thalweg(verb, tmp_path / "run") for verb in ("report", "figures", "advise"))
    for ran in (survey("--data", data, "--limit", 2), *looks):
        assert f"{tmp_path / 'run'} {said}" in ran.complaint
    assert json.loads(file.read_text()) == earlier


def test_a_damaged_part_is_named_by_who_reads_it_and_measured_again_by_the_same_command(
    survey, thalweg, data, tmp_path, caplog
):
    assert survey("--data", data, "--limit", 2).code == 0
    before = open_run(tmp_path / "run").layers.collect()
    file = next((tmp_path / "run" / "survey").rglob("*.layers.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    told = f"{file} is damaged: it does not hold what was written. Run the same command again: it is measured anew."
    assert told in thalweg("figures", tmp_path / "run").complaint
    assert survey("--data", data, "--limit", 2).code == 0
    assert f"{file} is damaged: it does not hold what was written; rows 0 to 1 of" in caplog.text
    assert open_run(tmp_path / "run").layers.collect().equals(before)


@pytest.mark.parametrize("place", ["a file", "below a file", "other files", "another run"])
def test_a_place_that_is_taken_is_refused_and_kept(survey, data, tmp_path, place):
    out = tmp_path / "place"
    if place == "a file":
        out.write_text("mine")
    elif place == "below a file":
        out.write_text("mine")
        out /= "run"
    elif place == "other files":
        out.mkdir()
        (out / "thesis.tex").write_text("mine")
    else:
        assert survey("--data", data, "--limit", 2, "--max-length", 9, out=out).code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    complaint = survey("--data", data, "--limit", 2, out=out).complaint
    said = {
        "a file": "is a file. Choose another --out",
        "below a file": "Not a directory. Make it writable, or choose another --out",
        "other files": "it holds thesis.tex. Choose another --out",
        "another run": "belongs to another run; max_length: run has 9, asked for 1024. Choose another --out",
    }
    assert said[place] in complaint
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "no space left on the disk"), (errno.EROFS, "Read-only file system")]
)
def test_a_disk_that_refuses_keeps_the_finished_parts(survey, data, tmp_path, monkeypatch, number, words):
    own, synced = os.fsync, []

    def sync(handle):
        if list(tmp_path.glob("run/survey/*/*/*.json")):  # the first shard is finished
            synced.append(handle)
            raise OSError(number, os.strerror(number))
        own(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", sync)
        complaint = survey("--data", data).complaint
    assert synced
    assert words in complaint
    assert not list(tmp_path.rglob("*.tmp"))
    assert open_run(tmp_path / "run").prompts.collect()["prompt"].to_list() == list(range(64))
    assert survey("--data", data).code == 0
    resumed = open_run(tmp_path / "run")
    assert resumed.status == "finished"
    assert resumed.prompts.collect()["prompt"].to_list() == list(range(70))


def test_a_directory_that_cannot_be_made_is_refused(survey, data, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    assert "Permission denied. Make it writable, or choose another --out." in survey("--data", data).complaint


HOLD = """
import sys
from pathlib import Path
import filelock
Path(sys.argv[1]).mkdir()
with filelock.FileLock(Path(sys.argv[1]) / ".lock"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_share_a_run(survey, data, tmp_path):
    code = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert f"another process is writing {tmp_path / 'run'}" in survey("--data", data, "--limit", 1).complaint
        other.stdin.close()
        assert other.wait() == 0
    assert survey("--data", data, "--limit", 1).code == 0


NASTY = "[bold red]x\x1b[31m\x07\u202e"


def test_names_are_printed_as_they_are_and_give_the_terminal_no_orders(thalweg, tmp_path):
    path = tmp_path / f"{NASTY}.txt"
    path.write_text("a line of more than ten bytes\n")
    model = save(llama(), tmp_path / f"{NASTY} model")
    written = r"[bold red]x\x1b[31m\x07\u202e"
    outcome = thalweg("survey", model, "--data", path, "--out", tmp_path / "run")
    assert outcome.code == 0
    table = " ".join(outcome.out.rpartition("run: ")[0].split())
    assert f"{written} model on {written}.txt" in table
    assert not set("\x1b\x07\u202e") & set(table)
    for complaint in (
        thalweg("survey", model, "--data", path, "--limit", 0).complaint,
        thalweg("survey", tmp_path / NASTY / "gone").complaint,
        thalweg("survey", "--data", tmp_path / f"{NASTY}.csv").complaint,
        thalweg(f"{NASTY}").complaint,
        thalweg("report", tmp_path / NASTY).complaint,
    ):
        assert not set("\x1b\x07\u202e") & set(complaint)
    assert written in thalweg("report", tmp_path / NASTY).complaint


@pytest.mark.parametrize("verb", ["survey", "report"])
@pytest.mark.parametrize("megabytes", [400, 700, 1000])
def test_memory_too_tight_to_begin_is_one_line(verb, megabytes):
    limit = f"import resource as r; r.setrlimit(r.RLIMIT_AS, ({megabytes}_000_000,) * 2)"
    code = f"{limit}; import sys; sys.argv = ['thalweg', '{verb}', 'reference']; from thalweg.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith("thalweg: an address space of")
    assert "ulimit -v" in line
