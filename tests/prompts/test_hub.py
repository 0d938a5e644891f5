import json
import pickle
import types

import datasets
import huggingface_hub
import pytest

from thalweg.errors import DataError
from thalweg.prompts import list_data, open_source
from thalweg.prompts._data_sets import HUB_DATA
from thalweg.prompts._hub import HubRows, parse_hub_name

COMMIT = "c0ffee"


class Hub:
    """A hub that is never reached: it records what is asked of it and counts the rows it gives."""

    def __init__(self):
        self.calls = []
        self.pulled = 0
        self.records = [{"question": f"q{n}", "answer": f"a{n}", "text": f"t{n}"} for n in range(10_000)]
        self.error = None

    def load_dataset(self, *args, **options):
        self.calls.append((args, options))
        if self.error:
            raise self.error
        return self

    def __iter__(self):
        for record in self.records:
            self.pulled += 1
            yield record


@pytest.fixture
def hub(monkeypatch):
    fake = Hub()
    monkeypatch.setattr(datasets, "load_dataset", fake.load_dataset)
    info = types.SimpleNamespace(sha=COMMIT)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: info)
    return fake


def test_a_limit_of_500_pulls_no_more_than_500_rows_and_the_first_again(hub):
    source = open_source("gsm8k")
    assert [row.number for row in source.rows(0, 500)] == list(range(500))
    assert hub.pulled <= 501
    assert len(hub.calls) == 1


def test_a_short_name_is_loaded_with_the_papers_prompt_form(hub):
    source = open_source("gsm8k")
    assert hub.calls == [
        (("openai/gsm8k", "main"), {"data_dir": None, "split": "train", "revision": COMMIT, "streaming": True})
    ]
    assert (source.name, source.kind, source.template) == ("gsm8k", "hub", "{question}\n{answer}")
    assert next(source.rows()).text == "q0\na0"


def test_configurations_are_read_one_after_the_other_and_no_earlier_than_needed(hub):
    hub.records = [{"problem": "p", "solution": "s"}] * 3
    rows = open_source("math").rows()
    assert [next(rows).number for _ in range(4)] == [0, 1, 2, 3]
    assert [args[1] for args, _ in hub.calls] == ["algebra", "counting_and_probability"]
    assert len(list(rows)) == 7 * 3 - 4


def test_the_number_of_rows_is_what_the_descriptions_add_up_to(hub):
    hub.records = [{"problem": "p", "solution": "s"}]
    source = open_source("math")
    assert source.count() is None
    hub.info = types.SimpleNamespace(splits={"train": types.SimpleNamespace(num_examples=11)})
    assert source.count() == 7 * 11


def test_no_remote_code_is_ever_asked_for(hub):
    for data in HUB_DATA:
        hub.records = [dict.fromkeys(data.fields, "x")]
        open_source(data.name)
    assert all("trust_remote_code" not in options for _, options in hub.calls)


@pytest.mark.parametrize("data", HUB_DATA, ids=lambda data: data.name)
def test_every_short_name_opens_with_its_own_fields(hub, data):
    hub.records = [dict.fromkeys(data.fields, "x")]
    source = open_source(data.name)
    assert source.template == "\n".join(f"{{{field}}}" for field in data.fields)
    assert source.origin["hub_id"] == data.hub_id


def test_the_commit_is_pinned_and_part_of_the_identity(hub, monkeypatch):
    first = open_source("gsm8k")
    assert first.origin["revision"] == COMMIT
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: types.SimpleNamespace(sha="later"))
    assert open_source("gsm8k").hash != first.hash
    assert open_source("gsm8k:socratic").hash != open_source("gsm8k").hash
    assert {call[1]["revision"] for call in hub.calls} == {COMMIT, "later"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/name", HubRows("org/name", None, (), None, "train")),
        ("org/name:config", HubRows("org/name", None, ("config",), None, "train")),
        ("org/name::test", HubRows("org/name", None, (), None, "test")),
        ("org/name@refs/convert/parquet:a+b:dev", HubRows("org/name", "refs/convert/parquet", ("a", "b"), None, "dev")),
        ("org/name:data/rust", HubRows("org/name", None, (), "data/rust", "train")),
    ],
)
def test_a_hub_name_says_revision_configuration_and_split(name, expected):
    assert parse_hub_name(name, None) == expected


@pytest.mark.parametrize("name", ["org/name:a:b:c", "org/name@", ":a"])
def test_a_name_written_otherwise_is_refused(name):
    with pytest.raises(DataError, match="expected organisation/name@revision:config:split"):
        parse_hub_name(name, None)


@pytest.mark.parametrize(
    ("name", "config", "folder", "split"),
    [
        ("gsm8k", "main", None, "train"),
        ("gsm8k::test", "main", None, "test"),
        ("gsm8k:socratic:test", "socratic", None, "test"),
        ("math:algebra", "algebra", None, "train"),
        ("the-stack", None, "data/python", "train"),
        ("the-stack:data/rust", None, "data/rust", "train"),
    ],
)
def test_a_short_name_can_be_varied(hub, name, config, folder, split):
    hub.records = [{"question": "q", "answer": "a", "problem": "p", "solution": "s", "content": "c"}]
    source = open_source(name)
    assert source.name == name
    [(args, options)] = hub.calls
    assert (args[1], options["data_dir"], options["split"]) == (config, folder, split)


def test_any_hub_name_is_read_by_the_field_asked_for(hub):
    hub.records = [{"body": "b", "n": 1}]
    assert next(open_source("org/name", text_field="body").rows()).text == "b"
    with pytest.raises(DataError, match="got the fields body, n"):
        open_source("org/name")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (datasets.exceptions.DatasetNotFoundError("Dataset 'x' is a gated dataset on the Hub."), "gated one without"),
        (datasets.exceptions.DatasetNotFoundError("Dataset 'x' doesn't exist on the Hub"), "got none of that name"),
        (datasets.exceptions.DatasetNotFoundError("Revision 'r' doesn't exist for dataset 'x'"), "a revision of"),
        (
            RuntimeError("Dataset scripts are no longer supported, but found x.py"),
            "loading script, which thalweg never",
        ),
        (ConnectionError("Couldn't reach the Hub for 'x': Offline mode is enabled."), "HF_HUB_OFFLINE"),
        (ConnectionError("Couldn't reach 'x' on the Hub (ConnectError)"), "expected to reach the hub"),
        (ValueError("BuilderConfig 'b' not found. Available: ['main', 'c']"), "configurations main, c; got main"),
        (ValueError("Config name is missing.\nPlease pick one among the available configs: ['a', 'b']"), "tions a, b;"),
        (ValueError("Bad split: train. Available splits: ['test', 'dev']"), "splits test, dev; got train"),
        (PermissionError("403 Client Error"), "gated one without"),
        (KeyError("something else\nover two lines"), "expected a data set that streams"),
    ],
)
def test_whatever_fails_on_the_hub_is_said_in_one_line(hub, error, said):
    hub.error = error
    with pytest.raises(DataError, match=said) as caught:
        open_source("gsm8k")
    assert len(str(caught.value).splitlines()) == 1


def test_a_hub_out_of_reach_is_said_at_once(hub, monkeypatch):
    class ConnectError(Exception):
        pass

    def refuse(*_, **__):
        raise ConnectError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    with pytest.raises(DataError, match="expected to reach the hub"):
        open_source("gsm8k")
    assert hub.calls == []


@pytest.mark.usefixtures("hub")
def test_offline_mode_leaves_it_to_the_copy_on_disk(monkeypatch):
    def refuse(*_, **__):
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    source = open_source("gsm8k")
    assert source.origin["revision"] is None
    assert next(source.rows()).text == "q0\na0"


def test_a_hub_that_goes_away_in_the_middle_is_said_in_one_line(hub):
    def broken():
        yield {"question": "q", "answer": "a"}
        raise TimeoutError("read timed out")

    source = open_source("gsm8k")
    hub.records = broken()
    rows = source.rows()
    assert next(rows).text == "q\na"
    with pytest.raises(DataError, match="expected to reach the hub"):
        next(rows)


def test_a_data_set_without_rows_is_refused(hub):
    hub.records = []
    with pytest.raises(DataError, match="expected at least one row with fields"):
        open_source("gsm8k")


def test_a_folder_of_the_same_name_is_not_read_in_place_of_the_hub(hub, tmp_path, monkeypatch):
    (tmp_path / "openai" / "gsm8k").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="got a folder of that name here"):
        open_source("gsm8k")
    assert hub.calls == []


@pytest.fixture
def local_data_set(tmp_path, monkeypatch):
    """A folder laid out as a data set, for the real streaming code; two files, so that the rows cross a file's end."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    for part, name in enumerate(("train-00000-of-00002", "train-00001-of-00002")):
        lines = [json.dumps({"question": f"q{4 * part + n}", "answer": "a"}) for n in range(4)]
        (folder / "data" / f"{name}.jsonl").write_text("\n".join(lines))
    return HubRows(str(folder), None, (), None, "train")


def test_the_real_library_streams_rows_in_order(local_data_set):
    assert local_data_set.fields() == ("question", "answer")
    assert [row["question"] for row in local_data_set.records((), 2, 7)] == [f"q{n}" for n in range(2, 7)]
    assert len(list(local_data_set.records((), 0, None))) == 8
    assert local_data_set.count() is None


def test_the_real_library_names_the_splits_there_are(local_data_set):
    rows = HubRows(local_data_set.hub_id, None, (), None, "test")
    with pytest.raises(DataError, match=r"expected one of the splits train; got test"):
        rows.fields()


def test_the_real_library_names_the_configurations_there_are(local_data_set):
    rows = HubRows(local_data_set.hub_id, None, ("other",), None, "train")
    with pytest.raises(DataError, match=r"expected one of the configurations default; got other"):
        rows.fields()


def test_hub_rows_travel_to_another_process_after_use(local_data_set):
    first = next(local_data_set.records((), 0, 1))
    assert next(pickle.loads(pickle.dumps(local_data_set)).records((), 0, 1)) == first


def test_the_list_of_data_has_the_papers_sets_and_the_default():
    names = [data.name for data in list_data()]
    assert names == ["bundled", "gsm8k", "math", "fineweb", "fineweb-edu", "the-stack", "redpajama", "wikitext2"]
    assert [data.name for data in list_data() if data.gated] == ["the-stack"]
    assert all(data.note for data in list_data())
