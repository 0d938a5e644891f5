"""Tuned lenses as files: read as published, refused where they are another model's or more than tensors."""

import json
import os
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch

from hub_stub import hub
from saved import llama, save
from thalweg.capture import identify_model, load_model, subject_of
from thalweg.errors import ModelError
from thalweg.lenses import choose_lens, read_tuned, save_tuned, translators_of, tuned_lens, unembedding_hash
from thalweg.options import LoadOptions

WIDTH, BLOCKS = 32, 2
MARK = Path(tempfile.gettempdir()) / "thalweg-pickle-ran"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return identify_model(save(llama(), tmp_path_factory.mktemp("models") / "tiny"), LoadOptions())


def tensors(width=WIDTH, blocks=BLOCKS, *, bias=True):
    generator = torch.Generator().manual_seed(0)
    shapes = {"weight": (width, width)} | ({"bias": (width,)} if bias else {})
    return {
        f"{state}.{name}": torch.randn(*shape, generator=generator)
        for state in range(blocks)
        for name, shape in shapes.items()
    }


def configuration(**changes):
    own = {"base_model_name_or_path": "someone/tiny", "d_model": WIDTH, "num_hidden_layers": BLOCKS, "bias": True}
    return {**own, "base_model_revision": None, "unembed_hash": None, "lens_type": "linear_tuned_lens", **changes}


def published(path, own=None, **changes):
    """A lens as the tuned-lens package saves it."""
    path.mkdir(parents=True)
    torch.save(tensors() if own is None else own, path / "params.pt")
    (path / "config.json").write_text(json.dumps(configuration(**changes)))
    return path


def refusal(source, model):
    with pytest.raises(ModelError) as caught:
        read_tuned(source, model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_published_lens_is_read(tmp_path, model):
    found = read_tuned(published(tmp_path / "lens"), model)
    for name, tensor in tensors().items():
        assert torch.equal(found.tensors[name], tensor)
    own = translators_of(found.tensors)
    assert len(own) == BLOCKS
    assert torch.equal(own[1].bias, tensors()["1.bias"])


def test_half_precision_and_no_bias_are_read(tmp_path, model):
    halves = {name: tensor.half() for name, tensor in tensors(bias=False).items()}
    found = read_tuned(published(tmp_path / "lens", halves, bias=False), model)
    assert found.tensors["0.weight"].dtype == torch.float32
    assert translators_of(found.tensors)[0].bias is None


def test_what_is_saved_is_read_back_equal_from_either_file(tmp_path, model):
    save_tuned(tmp_path / "lens", configuration(), tensors())
    safe = read_tuned(tmp_path / "lens", model)
    (tmp_path / "lens" / "params.safetensors").unlink()
    pickled = read_tuned(tmp_path / "lens", model)
    assert safe.digest == pickled.digest
    assert all(torch.equal(safe.tensors[name], one) for name, one in tensors().items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"d_model": 64}, "d_model 64"),
        ({"num_hidden_layers": 24}, "num_hidden_layers 24"),
        ({"lens_type": "mlp"}, "lens_type 'mlp'"),
    ],
)
def test_a_lens_of_another_model_is_refused_before_weights_are_loaded(tmp_path, model, changes, said):
    message = refusal(published(tmp_path / "lens", **changes), model)
    assert "made for another model" in message
    assert said in message


def test_a_lens_of_our_own_knows_the_weights_it_was_made_for(tmp_path, model):
    save_tuned(tmp_path / "lens", {**configuration(), "base_model_weights": "sha256:0"}, tensors())
    message = refusal(tmp_path / "lens", model)
    assert "made for another model" in message
    assert "weights" in message


def test_a_byte_of_our_own_configuration_is_noticed_wherever_it_is(tmp_path, model):
    save_tuned(tmp_path / "lens", {**configuration(), "base_model_weights": model.weights}, tensors())
    file = tmp_path / "lens" / "config.json"
    whole = file.read_bytes()
    for place in range(0, len(whole), 3):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        if whole[place : place + 1].isspace():
            continue  # between the words of JSON
        with pytest.raises(ModelError, match=r"config\.json"):
            read_tuned(tmp_path / "lens", model)


@pytest.mark.parametrize(
    ("made", "revision", "commit", "fits"),
    [
        (None, "main", "abc", True),
        ("step1000", "step1000", "abc", True),
        ("abc", "main", "abc", True),
        ("step1000", "main", "abc", False),
        (None, "step1000", "abc", False),
    ],
)
def test_revisions_are_compared(tmp_path, model, made, revision, commit, fits):
    own = replace(model, name="someone/tiny", revision=revision, commit=commit)
    lens = published(tmp_path / "lens", base_model_revision=made)
    if fits:
        read_tuned(lens, own)
    else:
        assert "revision" in refusal(lens, own)


def test_names_are_compared_and_a_directory_may_be_called_anything_if_the_unembedding_is_right(tmp_path, model):
    lens = published(tmp_path / "lens", base_model_name_or_path="someone/else")
    assert "someone/else" in refusal(lens, replace(model, name="someone/tiny", revision="main"))
    loaded = subject_of(load_model(model))
    found = read_tuned(lens, model)
    with pytest.raises(ModelError, match="another unembedding"):
        tuned_lens(loaded, found, model)
    right = unembedding_hash(loaded.parts.unembedding.weight)
    again = published(tmp_path / "right", base_model_name_or_path="someone/else", unembed_hash=right)
    tuned_lens(loaded, read_tuned(again, model), model)


class Evil:
    def __reduce__(self):
        return (os.system, (f"touch {MARK}",))


@pytest.mark.parametrize(
    "own",
    [{"0.weight": Evil()}, {"0.weight": "text"}, [1, 2], {**tensors(), "step": 3}, Path("x")],
    ids=["code", "text", "list", "number", "path"],
)
def test_a_pickle_with_anything_but_tensors_is_refused_and_not_run(tmp_path, model, own):
    assert "more than tensors" in refusal(published(tmp_path / "lens", own), model)
    assert not MARK.exists()


def test_damaged_files_are_refused(tmp_path, model):
    lens = published(tmp_path / "lens")
    (lens / "params.pt").write_bytes((lens / "params.pt").read_bytes()[:900])
    assert "damaged" in refusal(lens, model)
    save_tuned(tmp_path / "safe", configuration(), tensors())
    (tmp_path / "safe" / "params.safetensors").write_bytes(b"no")
    assert "damaged" in refusal(tmp_path / "safe", model)
    (lens / "config.json").write_text("[")
    assert "configuration" in refusal(lens, model)


@pytest.mark.parametrize("odd", [{"0.weight": torch.zeros(3, 3)}, {"7.bias": torch.zeros(WIDTH)}, {"0.bias": None}])
def test_tensors_have_to_be_those_of_the_configuration(tmp_path, model, odd):
    own = {name: one for name, one in {**tensors(), **odd}.items() if one is not None}
    assert next(iter(odd)) in refusal(published(tmp_path / "lens", own), model)


NO_LENS = {
    "NaN": lambda good: good * torch.nan,
    "infinity": lambda good: good / 0,
    "too large for float32": lambda good: good.double() * 1e300,
    "complex": lambda good: good.to(torch.complex64),
    "whole numbers": lambda good: good.to(torch.int8),
    "yes and no": lambda good: good.bool(),
    "8 bits": lambda good: good.to(torch.float8_e4m3fn),
    "sparse": lambda good: good.to_sparse(),
    "compressed": lambda good: good.to_sparse_csr(),
    "nested": lambda good: torch.nested.nested_tensor([*good]),
    "meta": lambda good: good.to("meta"),
    "expanded": lambda _: torch.zeros(1).expand(WIDTH, WIDTH),
    "expanded beyond memory": lambda _: torch.zeros(1).expand(10**6, 10**6),
    "quantized": lambda good: torch.quantize_per_tensor(good, 0.1, 0, torch.qint8),
    "another shape": lambda good: good[:, :3],
    "no shape": lambda _: torch.tensor(1.0),
}


@pytest.mark.filterwarnings("ignore")  # torch's own remarks on what is not finished
def test_a_tensor_that_no_lens_has_is_refused_by_its_name(tmp_path, model):
    for kind, made in NO_LENS.items():
        lens = published(tmp_path / kind, {**tensors(), "1.weight": made(tensors()["1.weight"])})
        message = refusal(lens, model)
        assert "1.weight" in message
        assert str(lens) in message


def test_a_view_of_a_tensor_is_that_tensor(tmp_path, model):
    own = {name: torch._neg_view(-one) for name, one in tensors().items()}
    assert torch.equal(read_tuned(published(tmp_path / "lens", own), model).tensors["0.bias"], tensors()["0.bias"])


HEADERS = [
    {},
    [],
    {"0.weight": 1},
    {"0.weight": {"dtype": "F32", "shape": [-1, 32], "data_offsets": [0, 4096]}},
    {"0.weight": {"dtype": "F4", "shape": [32, 32], "data_offsets": [0, 512]}},
    {"0.weight": {"dtype": "F6_E2M3", "shape": [32, 32], "data_offsets": [0, 768]}},
    {"0.weight": {"dtype": "F8_E8M0", "shape": [32, 32], "data_offsets": [0, 1024]}},
    {"0.weight": {"dtype": "U16", "shape": [32, 32], "data_offsets": [0, 2048]}},
    {"0.weight": {"dtype": "Q99", "shape": [32, 32], "data_offsets": [0, 4096]}},
    {"0.weight": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}},
    {"0.weight": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4096]}},
]


def test_safetensors_of_odd_types_and_shapes_are_refused(tmp_path, model):
    lens = published(tmp_path / "lens")
    for header in HEADERS:
        said = json.dumps(header).encode()
        size = max((facts["data_offsets"][1] for facts in dict(header).values() if isinstance(facts, dict)), default=0)
        (lens / "params.safetensors").write_bytes(len(said).to_bytes(8, "little") + said + bytes(size))
        assert str(lens) in refusal(lens, model)


SETTINGS = {
    "d_model": ["32", 32.0, None, [], -1, 10**12, True],
    "num_hidden_layers": ["2", 2.0, None, 10**9, [], True],
    "bias": ["false", None, [], 0],
    "lens_type": [None, 3, []],
    "base_model_revision": [3, [], True],
    "base_model_weights": [3, [], {}],
    "base_model_name_or_path": [None, 3, [], {}],
    "unembed_hash": [3, []],
    "checksums": [1, [], {}, None, {"config.json": {"sha256": 1, "size": 2}}],
}


def test_a_setting_of_another_type_is_refused(tmp_path, model):
    for name, value in ((name, value) for name, values in SETTINGS.items() for value in values):
        message = refusal(published(tmp_path / f"{name} {value}", **{name: value}), model)
        assert name in message or "config.json" in message


FILES = ("params.pt", "params.safetensors", "config.json")
JUNK = {
    "words": b"junk",
    "nothing": b"",
    "a pickle that runs": pickle.dumps(Evil()),
    "a pickle of a newer protocol that runs": pickle.dumps(Evil(), protocol=4),
    "brackets": b"[" * 100_000,
    "NULs": bytes(1000),
}


def test_junk_in_any_file_is_refused_and_not_run(tmp_path, model):
    for file in FILES:
        lens = published(tmp_path / file)
        for content in JUNK.values():
            (lens / file).write_bytes(content)
            assert file in refusal(lens, model)
            assert not MARK.exists()


@pytest.mark.parametrize("file", FILES)
def test_a_pipe_in_place_of_a_file_is_refused_at_once(file, tmp_path, model):
    lens = published(tmp_path / "lens")
    (lens / file).unlink(missing_ok=True)
    os.mkfifo(lens / file)
    assert "pipe" in refusal(lens, model)


def test_a_lens_of_others_is_known_by_what_it_holds(tmp_path, model):
    one = choose_lens(published(tmp_path / "one"), model).settings
    again = choose_lens(published(tmp_path / "two", base_model_name_or_path="another/name"), model).settings
    changed = tensors()
    changed["1.bias"][0] += 1e-6
    other = choose_lens(published(tmp_path / "three", changed), model).settings
    assert one == again
    assert one != other


def test_where_there_is_no_lens_it_says_what_is_expected(tmp_path, model):
    assert "config.json" in refusal(tmp_path, model)
    assert "AlignmentResearch/tuned-lens" in refusal("nowhere/at-all", model)


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """The published lenses on loopback: one of a model called tiny."""
    published(tmp_path / "space" / "lens" / "someone" / "tiny")
    with hub({"AlignmentResearch/tuned-lens": tmp_path / "space"}) as served:
        template = served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", served.endpoint)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield served


@pytest.mark.parametrize("named", ["AlignmentResearch/tuned-lens", "AlignmentResearch/tuned-lens:someone/tiny"])
def test_published_lenses_come_from_the_space_by_the_model_s_name(stub, model, named):
    found = read_tuned(named, replace(model, name="someone/tiny", revision="main"))
    assert torch.equal(found.tensors["1.weight"], tensors()["1.weight"])
    fetched = [line for line in stub.asked if line.startswith("GET")]
    assert any(
        "/spaces/AlignmentResearch/tuned-lens/resolve/main/lens/someone/tiny/params.pt" in one for one in fetched
    )


@pytest.mark.usefixtures("stub")
def test_a_model_without_a_published_lens_is_told_how_to_train_one(model):
    message = refusal("AlignmentResearch/tuned-lens", replace(model, name="someone/other", revision="main"))
    assert "thalweg lens someone/other --train-tuned" in message


def test_a_hub_out_of_reach_is_one_line(tmp_path, model, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert "cannot be reached" in refusal("AlignmentResearch/tuned-lens", model)
