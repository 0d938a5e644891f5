"""Load a model once, safely: safetensors only and no remote code unless asked, every failure one clear line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GgufConfig, PreTrainedModel
from transformers.distributed.configuration_utils import DistributedConfig

from thalweg import ranks
from thalweg.capture._adapter import NOWHERE, adapted
from thalweg.capture._failures import (
    mention_blocks_left_out,
    readable_errors,
    refuse_another_quantization,
    refuse_impossible_sizes,
    refuse_invented_weights,
)
from thalweg.capture._fetch import weight_files
from thalweg.capture._gguf import GgufFile, read_once
from thalweg.capture._identity import stored_in_files
from thalweg.capture._named import DTYPES, IdentifiedModel, asked_for, device_of, quiet
from thalweg.options import LoadOptions


def load_model(identified: IdentifiedModel) -> PreTrainedModel:
    """Load the weights of an identified model and put it into evaluation mode; one that is given is used as it is.

    Raises:
        ModelError: the weights cannot be read, are not those of the configuration, or do not fit on the device.
    """
    if identified.given is not None:
        return identified.given.eval()
    options = identified.options
    if identified.adapter is not None:
        adapter, base = identified.adapter
        loaded = load_model(base)
        with readable_errors(identified.name, options.revision):
            return adapted(identified.name, adapter, loaded)
    alone = ranks.size() == 1 and options.device_map is None
    device, quantization = device_of(options.device) if alone else None, identified.quantization
    with (
        readable_errors(identified.name, options.revision, quantization),
        quiet(),
        _no_conversion(),
        read_once(identified.gguf),
    ):
        stored = identified.gguf.tensors if identified.gguf else stored_in_files(weight_files(identified))
        refuse_impossible_sizes(identified.name, identified.config.to_dict(), stored)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            identified.source,
            config=identified.config,
            dtype=DTYPES[identified.dtype],
            use_safetensors=None if options.allow_pickle else True,
            weights_only=True,
            output_loading_info=True,
            **_placement(options),
            **NOWHERE,
            **_dequantized(identified.gguf),
            **asked_for(options, identified.commit, identified.reached, identified.gguf),
        )
        model, information = loaded
        refuse_invented_weights(identified.name, model, information["missing_keys"])
        mention_blocks_left_out(identified.name, model, information["unexpected_keys"])
        if quantization is not None:
            refuse_another_quantization(identified.name, quantization, model, DTYPES[identified.dtype])
        return (model if device is None else model.to(torch.device(device))).eval()


def _dequantized(gguf: GgufFile | None) -> dict[str, Any]:
    """Told in so many words: where kernels for it are installed, transformers would compute on the packed weights."""
    return {} if gguf is None else {"quantization_config": GgufConfig(dequantize=True)}


def _placement(options: LoadOptions) -> dict[str, Any]:
    if ranks.size() > 1:
        return {"distributed_config": DistributedConfig(tp_plan="auto")}
    if options.device_map is None:
        return {}
    return {
        "device_map": {"": "disk"} if options.device_map == "disk" else options.device_map,
        "max_memory": dict(options.max_memory) if options.max_memory else None,
        "offload_folder": options.offload_folder,
    }


@contextmanager
def _no_conversion() -> Iterator[None]:
    """Without the service that transformers asks to convert pickled weights: it opens a pull request at the model's."""
    variable = "DISABLE_SAFETENSORS_CONVERSION"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        yield
    finally:
        os.environ.pop(variable, None)
        os.environ.update({} if before is None else {variable: before})
