"""The real model in GGUF: what is measured of the file is what its weights, loaded by hand, give."""

from functools import cache

import gguf
import polars as pl
import torch
import transformers as tf

import thalweg
from thalweg import open_run

TEXTS = ("The river runs down to the sea; its deepest line is the thalweg.", "Natalia sold clips to 48 of her friends.")


def test_a_survey_of_the_file_is_that_of_its_weights_loaded_by_hand(smollm2, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "GGUFReader", cache(gguf.GGUFReader))  # which reads the vocabulary anew each time
    monkeypatch.setattr(gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map))
    data = tmp_path / "texts.txt"
    data.write_text("\n".join(TEXTS))
    thalweg.survey(str(smollm2), str(data), out=tmp_path / "file")
    where = {"pretrained_model_name_or_path": smollm2.parent, "gguf_file": smollm2.name}
    read = tf.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    plain = tf.LlamaForCausalLM(tf.LlamaConfig(**{k: v for k, v in read.config.to_dict().items() if "quant" not in k}))
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(tmp_path / "hand")
    tf.AutoTokenizer.from_pretrained(**where).save_pretrained(tmp_path / "hand")
    thalweg.survey(str(tmp_path / "hand"), str(data), out=tmp_path / "other")
    [facts] = open_run(tmp_path / "file").header.models
    assert facts.quantization == "GGUF Q4_1, dequantized"
    for table in ("layers", "heads"):
        ours, theirs = (getattr(open_run(tmp_path / run), table).collect() for run in ("file", "other"))
        numbers = ours.select(pl.selectors.float()).columns
        one, other = (torch.from_numpy(rows.select(numbers).to_numpy()) for rows in (ours, theirs))
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6, equal_nan=True)
