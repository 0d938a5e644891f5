"""GGUF files are models; one that cannot be read is refused in one line that says what to do."""

import shutil
import tracemalloc
from itertools import product
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from thalweg.capture import identify_model, load_model
from thalweg.errors import ModelError

WIDTH, INNER, BLOCKS, TOKENS = 32, 64, 2, 258
KIND = gguf.GGMLQuantizationType.Q8_0
OF_A_BLOCK = {
    "attn_norm": (WIDTH,),
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (WIDTH, WIDTH),
    "attn_v": (WIDTH, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_norm": (WIDTH,),
    "ffn_gate": (INNER, WIDTH),
    "ffn_up": (INNER, WIDTH),
    "ffn_down": (WIDTH, INNER),
}
SHAPES = {"token_embd": (TOKENS, WIDTH), "output_norm": (WIDTH,)} | {
    f"blk.{block}.{name}": shape for block in range(BLOCKS) for name, shape in OF_A_BLOCK.items()
}


def write(path: Path, architecture: str = "llama", parts: int = 1) -> Path:
    """A random Llama of two blocks, its matrices in Q8_0, with a tokenizer of bytes."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_block_count(BLOCKS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    if parts > 1:
        writer.add_uint16("split.count", parts)
        writer.add_uint16("split.no", 0)
    letters = [chr(letter) for letter in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*letters, "<end>", "ab"])
    writer.add_token_types([*[gguf.TokenType.NORMAL] * 256, gguf.TokenType.CONTROL, gguf.TokenType.NORMAL])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(256)
    for name, shape in SHAPES.items():
        values = random.standard_normal(shape).astype(np.float32)
        packed, kind = (gguf.quantize(values, KIND), KIND) if len(shape) == 2 else (values, None)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def refused(path):
    with pytest.raises(ModelError) as caught:
        load_model(identify_model(str(path)))
    [line] = str(caught.value).splitlines()
    return line


def test_a_file_is_a_model_of_plain_numbers(tiny, capfd):
    found = identify_model(str(tiny))
    model = load_model(found)
    assert capfd.readouterr() == ("", "")
    assert (found.name, found.revision, found.dtype, found.context) == (str(tiny), "local", "float32", 64)
    assert found.quantization == "GGUF Q8_0, dequantized"
    assert found.weights.startswith("sha256:")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert model.config.num_hidden_layers == BLOCKS
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(tiny).tensors}["blk.1.ffn_up.weight"]
    expected = gguf.dequantize(stored.data, stored.tensor_type)
    assert np.array_equal(model.model.layers[1].mlp.up_proj.weight.detach().numpy(), expected)
    assert found.tokenizer("aab", add_special_tokens=False)["input_ids"] == [64, 257]


def test_any_change_of_a_tensor_is_another_identity(tiny, tmp_path):
    copied = Path(shutil.copy(tiny, tmp_path / "other.gguf"))
    assert identify_model(str(copied)).weights == identify_model(str(tiny)).weights
    content = bytearray(copied.read_bytes())
    content[-1] ^= 1
    copied.write_bytes(content)
    assert identify_model(str(copied)).weights != identify_model(str(tiny)).weights


def test_an_architecture_that_is_not_converted_is_refused(tmp_path):
    line = refused(write(tmp_path / "odd.gguf", architecture="rwkv7"))
    assert "odd.gguf is of an architecture that transformers does not read from GGUF" in line
    assert "rwkv7" in line
    assert "Give its safetensors" in line


@pytest.mark.parametrize("share", [0.001, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(share, tiny, tmp_path):
    content = tiny.read_bytes()
    (tmp_path / "half.gguf").write_bytes(content[: int(len(content) * share)])
    assert "half.gguf is truncated or damaged" in refused(tmp_path / "half.gguf")


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "noise.gguf").write_bytes(b"noise" * 99)
    assert "noise.gguf is no GGUF file" in refused(tmp_path / "noise.gguf")


def test_one_part_of_several_is_refused(tmp_path):
    line = refused(write(tmp_path / "big-00001-of-00003.gguf", parts=3))
    assert "is part 1 of 3 of a model; expected one file. Merge them with llama.cpp's `llama-gguf-split --merge" in line


def test_a_directory_of_gguf_files_names_one(tiny):
    assert "has no config.json. To measure tiny.gguf name that file" in refused(tiny.parent)


def test_the_package_that_is_missing_is_named(tiny, monkeypatch):
    monkeypatch.setattr("thalweg.capture._gguf.find_spec", lambda _: None)
    assert refused(tiny).endswith("needs gguf, which is not installed. Run: pip install gguf")


def test_more_blocks_than_the_file_has_tensors_are_refused(tiny, tmp_path):
    name = b"llama.block_count"
    head, _, tail = tiny.read_bytes().partition(name)
    (tmp_path / "deep.gguf").write_bytes(head + name + tail[:4] + (10**6).to_bytes(4, "little") + tail[8:])
    assert "num_hidden_layers 1,000,000" in refused(tmp_path / "deep.gguf")


def test_a_length_beyond_the_file_is_damage(tiny, tmp_path):
    content, name = tiny.read_bytes(), b"tokenizer.ggml.tokens"
    table = content.index(b"token_embd.weight") + len(b"token_embd.weight")
    places = [8, 16, 24, content.index(name) + len(name) + 8, table - 3, table, table + 4]
    for place, count in product(places, (2**31, 2**40, 2**63 - 1, 2**64 - 1)):
        path = tmp_path / f"{place}.gguf"
        path.write_bytes(content[:place] + count.to_bytes(8, "little") + content[place + 8 :])
        assert f"{place}.gguf" in refused(path)


def test_dimensions_that_no_tensor_has_take_no_memory(tiny, tmp_path):
    content, path = tiny.read_bytes(), tmp_path / "wide.gguf"
    table = content.index(b"token_embd.weight") + len(b"token_embd.weight")
    path.write_bytes(content[:table] + (2**27).to_bytes(4, "little") + content[table + 4 :])
    tracemalloc.start()
    try:
        assert "wide.gguf is truncated or damaged" in refused(path)
        assert tracemalloc.get_traced_memory()[1] < 2**26  # a number for each would take 2**30 bytes
    finally:
        tracemalloc.stop()


def test_the_header_is_read_once(tmp_path, monkeypatch):
    read, whole = [], gguf.GGUFReader
    monkeypatch.setattr(gguf.gguf_reader, "GGUFReader", lambda path: read.append(path) or whole(path))
    file = write(tmp_path / "again.gguf")
    load_model(identify_model(str(file)))
    assert read == [str(file)]
    assert gguf.GGUFReader is whole
    shutil.copy(write(tmp_path / "other.gguf", parts=1), file)
    identify_model(str(file))
    assert read == [str(file)] * 2, "a file that was written again is another one"
