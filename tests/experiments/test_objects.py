"""A loaded model and data in memory: the same tables and the same run as from disk, and everything left as it was."""

import copy
import inspect

import pandas as pd
import polars as pl
import pytest
import torch
import transformers as tf
from polars.testing import assert_frame_equal
from tests.gallery import alone
from tests.probed import films

import thalweg
from saved import SIZES, in_cache, llama, save
from thalweg.capture import identify_given, identify_model
from thalweg.errors import DataError, ModelError, RunError, ThalwegError, UsageError
from thalweg.experiments import Recipe, SurveyOptions, experiments, tables_of
from thalweg.options import LoadOptions
from thalweg.reference import Plant, byte_tokenizer, planted_llama
from thalweg.report._page import run_facts

TEXTS = [f"{row} bottles of water " * (1 + row % 3) for row in range(9)]
TOKENIZER = byte_tokenizer()
GIVEN = {"tokenizer": TOKENIZER, "progress": False}
TABLES = (*tables_of("survey").parts, *tables_of("survey").wholes)


@pytest.fixture(scope="module")
def model():
    """A planted model that was built here, in training."""
    return planted_llama(Plant(0, 2, {3: 2000.0}, (0,)), blocks=4, width=32).train()


@pytest.fixture(scope="module")
def directory(model, tmp_path_factory):
    return save(copy.deepcopy(model), tmp_path_factory.mktemp("models") / "planted")


@pytest.fixture
def never_loaded(monkeypatch):
    for kind in (tf.AutoModelForCausalLM, tf.AutoTokenizer, tf.AutoConfig):
        monkeypatch.setattr(kind, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.setattr(tf.PreTrainedModel, "save_pretrained", lambda *_, **__: pytest.fail("saved"))


def as_it_is(model):
    modules = [
        (
            each.training,
            {name: len(held) for name, held in vars(each).items() if "_hooks" in name and isinstance(held, dict)},
        )
        for each in model.modules()
    ]
    weights = [(weight.requires_grad, weight.grad, weight.dtype, weight._version) for weight in model.parameters()]
    return modules, weights, model.config._attn_implementation, model.config.to_dict()


@pytest.mark.parametrize("family", ["llama", "gpt2, tied"])
def test_an_object_its_directory_and_its_snapshot_are_one_model_with_the_same_tables(family, tmp_path, hub_cache):
    built = (
        llama()
        if family == "llama"
        else tf.GPT2LMHeadModel(tf.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=258))
    )
    name = save(built.eval(), tmp_path / "saved")
    loaded = tf.AutoModelForCausalLM.from_pretrained(name, dtype="auto")
    known = identify_model(name)
    for given in (built, loaded):
        identified = identify_given(given, TOKENIZER, LoadOptions())
        assert (identified.weights, identified.configuration) == (known.weights, known.configuration)
    run = thalweg.survey(loaded, TEXTS, out=tmp_path / "object", **GIVEN)
    other = thalweg.survey(name, TEXTS, out=tmp_path / "directory", progress=False)
    for table in TABLES:
        assert_frame_equal(getattr(run, table).collect(), getattr(other, table).collect(), check_exact=True)
    assert (run.header.models[0].given, other.header.models[0].given) == (type(built).__name__, None)
    assert run.header.identity == other.header.identity
    in_cache(hub_cache, "org/saved", name)
    snapshot = thalweg.survey("org/saved", TEXTS, out=tmp_path / "snapshot", progress=False)
    for table in TABLES:
        mine, theirs = (getattr(each, table).drop("model", "revision").collect() for each in (run, snapshot))
        assert_frame_equal(mine, theirs, check_exact=True)
    [here], [there] = (each.header.identity.models.values() for each in (run, snapshot))
    assert {**here, "files": None} == {**there, "files": None}  # and the hub's ids of the files beside
    assert (here["files"], bool(there["files"])) == (None, True)
    assert identify_given(loaded, TOKENIZER, LoadOptions()).revision == "local"
    from_hub = tf.AutoModelForCausalLM.from_pretrained("org/saved", dtype="auto")
    again = thalweg.survey(from_hub, TEXTS, out=tmp_path / "snapshot", **GIVEN)  # goes on with the snapshot's run
    assert again.header.identity == snapshot.header.identity
    more = thalweg.survey(name, TEXTS, out=tmp_path / "object", progress=False)  # goes on with the object's run
    assert more.header.models == run.header.models


def test_another_weight_is_another_model(directory, tmp_path):
    loaded = tf.AutoModelForCausalLM.from_pretrained(directory)
    thalweg.survey(loaded, TEXTS, out=tmp_path, **GIVEN)
    with torch.no_grad():
        next(loaded.parameters())[0, 0] += 1
    with pytest.raises(RunError, match=f"weights of {directory}@local"):
        thalweg.survey(loaded, TEXTS, out=tmp_path, **GIVEN)


@pytest.mark.usefixtures("never_loaded")
def test_texts_in_memory_are_data_that_a_run_goes_on_with(model, tmp_path):
    run = thalweg.survey(model, TEXTS, limit=4, out=tmp_path, **GIVEN)
    [data] = run.header.data
    assert (data.name, data.given) == ("texts", None)
    assert run.session.resolved["tokenizer"] == type(TOKENIZER).__name__
    frame = pd.DataFrame({"text": TEXTS, "n": range(9)})
    assert thalweg.survey(model, frame, out=tmp_path, **GIVEN).prompts.collect().height == 9
    with pytest.raises(RunError, match="hash of texts"):
        thalweg.survey(model, TEXTS[1:], out=tmp_path, **GIVEN)
    named = thalweg.survey(
        model, {"mine": TEXTS, "theirs": pl.DataFrame({"text": TEXTS})}, out=tmp_path / "two", **GIVEN
    )
    assert [each.name for each in named.header.data] == ["mine", "theirs"]
    assert run_facts(named)["Data mine"]["given"] == "in memory, as an object"


CALLS = {
    "survey": {},
    "attribute": {},
    "ablate": {"seeds": 1},
    "clip": {"gamma": "10,100"},
    "contrast": {"length": "any", "top": 2},
    "lens": {},
    "checkpoints": {},
    "probe": {"learning_rate": 0.05},
    "train_tuned": {"steps": 2, "step_tokens": 64},
}


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize("verb", CALLS)
def test_every_experiment_takes_both_and_leaves_the_model_as_it_was(verb, model, tmp_path):
    model.model.layers[1].eval()  # on purpose
    model.lm_head.weight.requires_grad_(False)
    models, data = model, TEXTS
    if verb == "checkpoints":
        other = planted_llama(Plant(0, 1, {3: 2000.0}, (0,)), blocks=3, width=32)
        other.config._name_or_path, models = "other", [model, other]
    if verb == "probe":
        data = pd.read_json(films(tmp_path / "films.jsonl", 20, 0), lines=True)
    with model.model.layers[0].register_forward_hook(lambda *_: None):
        before = as_it_is(model)
        found = getattr(thalweg, verb)(models, data=data, out=tmp_path / "run", limit=20, **CALLS[verb], **GIVEN)
        assert as_it_is(model) == before
    run = thalweg.open_run(tmp_path / "run")
    assert run.header.models[0].given == "LlamaForCausalLM"
    assert found is not None


def test_what_is_loaded_is_measured_in_its_own_type(tmp_path):
    half = llama().to(torch.bfloat16)
    run = thalweg.survey(half, TEXTS[:2], out=tmp_path, **GIVEN)
    assert run.header.models[0].dtype == "bfloat16"
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        ({"tokenizer": None}, UsageError, "is loaded and needs its tokenizer; got none. Pass tokenizer=AutoTokenizer"),
        ({"tokenizer": "gpt2"}, UsageError, "needs its tokenizer; got str"),
        ({"models": {"a": 1}}, ModelError, "expected one transformers model; got dict, which holds none"),
        ({"models": torch.nn.Linear(2, 2)}, ModelError, "got Linear, which holds none"),
        ({"models": []}, UsageError, "models must name at least one"),
        ({"models": "reference"}, UsageError, "tokenizer: expected beside a model that is loaded"),
        ({"data": ["a", 3]}, DataError, "expected a list of texts; item 1 is a int"),
        ({"data": pl.DataFrame({"body": ["a"]})}, DataError, "texts: expected a field text, .* got the fields body"),
        ({"text_field": "body", "data": pl.DataFrame({"text": ["a"]})}, DataError, "no field 'body'"),
        ({"text_field": 3}, UsageError, "--text-field must be a valid string; got 3"),
        ({"data": ("a", "b")}, DataError, "--data a: expected a short name"),
        ({"dtype": "float32"}, UsageError, "dtype: .* is loaded already and used as it is. Leave dtype out"),
        ({"limt": 3}, UsageError, "survey has no option limt. Did you mean limit"),
        ({"quite": 3}, UsageError, "survey has no option quite; it has models, data, out, options, revision"),
        ({"limit": "3"}, UsageError, "--limit must be at least 1 .* got '3'"),
        ({"variants": "yes"}, UsageError, "--variants must be a valid boolean; got 'yes'"),
        ({"out": 3}, UsageError, "out: survey expected a text or a path or None; got 3"),
        ({"options": {"limit": 3}}, UsageError, r"options: survey expected thalweg\.SurveyOptions\("),
    ],
)  # fmt: skip
def test_what_is_passed_wrongly_is_told_in_a_line(wrong, kind, said, model, tmp_path):
    with pytest.raises(kind, match=said) as told:
        thalweg.survey(**{"models": model, "data": TEXTS, "out": tmp_path / "run", **GIVEN, **wrong})
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


def test_other_kinds_of_models_are_refused_for_what_they_are():
    both = tf.T5Config(d_model=16, d_ff=16, num_layers=1, num_heads=2, d_kv=8, vocab_size=258)
    for model in (tf.BertModel(tf.BertConfig(**SIZES)), tf.T5ForConditionalGeneration(both)):
        with pytest.raises(ModelError, match="measures decoder-only models"):
            thalweg.survey(model, TEXTS, **GIVEN)


def test_positions_are_told_too(model):
    with pytest.raises(UsageError, match=r"survey: too many positional arguments; see help\(thalweg\.survey\)"):
        thalweg.survey(model, TEXTS, TOKENIZER)
    with pytest.raises(UsageError, match="survey: multiple values for argument 'data'"):
        thalweg.survey(model, TEXTS, data=TEXTS)


def test_options_and_keywords_are_one_and_the_keyword_counts(model, tmp_path):
    options = SurveyOptions(limit=2, tau=0.5, **GIVEN)
    run = thalweg.survey(model, TEXTS, out=tmp_path, options=options, limit=3)
    assert run.prompts.collect().height == 3
    assert run.header.thresholds.tau == 0.5
    assert options.limit == 2


@pytest.mark.parametrize("experiment", experiments(), ids=lambda experiment: experiment.verb)
def test_every_parameter_of_every_experiment_refuses_in_a_line(experiment):
    own = inspect.signature(inspect.unwrap(experiment.function)).parameters
    for name in [*inspect.signature(experiment.function).parameters, "no_such_option"]:
        if name in (
            "data",
            "validation",
            "test",
            "tasks",
            "dtype",
            "bos",
            "device_map",
            "max_memory",
            "offload_folder",
            "tokenizer",
        ):
            continue  # anything may be data, which is read later; how a model is loaded is told when it is
        with pytest.raises(ThalwegError) as told:
            experiment.function(**{name: object()})
        assert name in str(told.value) or name.replace("_", "-") in str(told.value) or list(own).index(name) < 2, (
            told.value
        )
        assert "\n" not in str(told.value)


def test_one_that_is_registered_takes_the_same(model, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend("examples")
    import row_spread

    with alone(row_spread.EXPERIMENT):
        found = thalweg.spread(model, TEXTS, limit=2, out=tmp_path, **GIVEN)
        assert found.table("prompts").collect()["prompt"].max() == 1
        with pytest.raises(UsageError, match=r"spread has no option limits\. Did you mean limit\?"):
            thalweg.spread(model, TEXTS, limits=2, **GIVEN)


def test_help_and_completion_list_the_keywords():
    parameters = inspect.signature(thalweg.probe).parameters
    assert {"limit", "epochs", "learning_rate", "tokenizer"} <= set(parameters)
    assert parameters["epochs"].default == Recipe().epochs
    assert parameters["limit"].annotation == int | None
