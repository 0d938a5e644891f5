"""A path is that path and nothing else, whatever characters it holds: run, model and data."""

import json
import shutil

import polars as pl
import pytest

import thalweg as library
from saved import llama, save

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
