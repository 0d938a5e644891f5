"""A path is that path and nothing else, whatever characters it holds: run, model and data."""

import json
import re
import shlex
import shutil
import sys

import polars as pl
import pytest
from tests.synthetic_run import PLANTED, header, open_survey, write_parts

import thalweg as library
from saved import llama, save
from thalweg.errors import RunError
from thalweg.experiments._session import command_line
from thalweg.store import open_run

NASTY = ("g[1]", "g*", "g?", "a b", "c#d", "e%20f", "date=2026-01-01", "ünï 模型", "{a,b}", "s3:")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A model and data in a folder of brackets, with another model's run beside each run to come."""
    place = tmp_path_factory.mktemp("places")
    home = place / "lab [1] #2%20 *"
    save(llama(), home / "m[1]?")
    texts = [f"{row} green bottles of water, standing on a wall" for row in range(6)]
    (home / "d[1].jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    pl.DataFrame({"text": texts}).write_parquet(home / "d[1].parquet")
    (home / "d1.jsonl").write_text(json.dumps({"text": "a decoy"}) + "\n")
    decoy = save(llama(num_hidden_layers=3), place / "decoy")
    library.survey(decoy, str(home / "d1.jsonl"), out=place / "runs" / "g1")
    return place, home


@pytest.mark.parametrize("name", NASTY)
def test_a_run_is_read_from_its_own_directory(places, name):
    place, home = places
    run = library.survey(str(home / "m[1]?"), str(home / "d[1].jsonl"), out=place / "runs" / name)
    assert run.prompts.collect()["prompt"].to_list() == [0, 1, 2, 3, 4, 5]
    assert run.layers.collect().columns == list(run.survey.header.tables["layers"].columns)
    assert run.phases.collect()["states"].to_list() == [2]


def test_every_verb_takes_g_1_for_itself_and_not_for_g1(thalweg, places):
    place, home = places
    out, model, data = place / "runs" / "g[1]", home / "m[1]?", home / "d[1].parquet"
    shutil.rmtree(out, ignore_errors=True)
    first = thalweg("survey", model, "--data", data, "--limit", 2, "--out", out)
    assert (first.code, first.err) == (0, "")
    again = thalweg("survey", model, "--data", data, "--out", out)
    assert (again.code, again.err) == (0, "")
    assert "m[1]? on d[1].parquet" in again.out
    assert f"thalweg report '{out}'" in again.out
    page = thalweg("report", out)
    assert page.out == f"{out / 'report.html'}\n"
    assert "m[1]?" in (out / "report.html").read_text(encoding="utf-8")
    assert "decoy" not in (out / "report.html").read_text(encoding="utf-8")
    assert {line.rpartition("/")[0] for line in thalweg("figures", out).out.splitlines()} == {str(out / "figures")}
    assert f"thalweg lens '{out}'" in thalweg("advise", out).out
    contrasted = thalweg("contrast", out, "--length", "any", "--top", 1)
    assert (contrasted.code, contrasted.err) == (0, "")
    run = library.open_run(out)
    assert run.prompts.collect()["prompt"].to_list() == [0, 1, 2, 3, 4, 5]
    assert run.experiments("contrast")[0].table("heads").collect()["block"].unique().to_list() == [0, 1]
    assert library.open_run(place / "runs" / "g1").prompts.collect().height == 1


@pytest.mark.parametrize("verb", [("survey",), ("ablate",), ("checkpoints", "other"), ("report",), ("figures",)])
@pytest.mark.parametrize("url", ["s3://bucket/run", "file:///tmp/run", "hf+x://a"])
def test_a_url_is_no_place_to_write_to(thalweg, places, verb, url, monkeypatch):
    place, home = places
    monkeypatch.chdir(place)
    about = place / "runs" / "g1" if verb[0] in ("report", "figures") else home / "m[1]?"
    more = (place / "decoy",) if verb[0] == "checkpoints" else ()
    said = thalweg(verb[0], about, *more, "--out", url).complaint
    assert f"--out expects a path on this machine; got the URL {url}" in said
    assert not any(":" in path.name for path in place.iterdir())


def test_a_url_is_no_run_and_no_data(thalweg, places):
    _, home = places
    assert "RUN expects a path on this machine" in thalweg("report", "s3://bucket/run").complaint
    for data in ("s3://bucket/rows.jsonl", "https://example.org/rows", "~nobody-here/rows.jsonl"):
        assert data in thalweg("survey", home / "m[1]?", "--data", data).complaint


ORDERS = "my run; touch ran #"


def test_what_is_to_be_typed_is_quoted(tmp_path):
    path = tmp_path / ORDERS
    with open_survey(path, header()) as writer:
        write_parts(writer, (PLANTED,), ("words",), prompts=2)
        writer.update(status="interrupted")
    for asked in (lambda: open_run(path).profile, lambda: library.contrast(path)):
        with pytest.raises(RunError) as caught:
            asked()
        [command] = re.findall("`(--out .*)`", str(caught.value))
        assert shlex.split(command) == ["--out", str(path)]


TOKEN = "hf_" + "aB3" * 12
SECRETS = (TOKEN, "s3cr3t", "p%40ss")


def test_secrets_of_a_command_line_reach_neither_run_nor_report(thalweg, places, tmp_path, monkeypatch):
    _, home = places
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    given = ["--offload-folder", "https://someone:s3cr3t@host/place", "--text-field", "text", "--limit", 2]
    first = thalweg("survey", home / "m[1]?", "--data", home / "d[1].jsonl", "--out", tmp_path / "run", *given)
    assert first.code == 0
    monkeypatch.setattr(sys, "argv", ["thalweg", "survey", f"--x={TOKEN}", "http://a:p%40ss@b/c", "ssh://me@host/x"])
    assert command_line() == ("thalweg", "survey", "--x=***", "http://***@b/c", "ssh://me@host/x")
    thalweg("report", tmp_path / "run")
    for file in (file for file in (tmp_path / "run").rglob("*") if file.is_file()):
        for secret in SECRETS:
            assert secret.encode() not in file.read_bytes(), file
