"""A model that is in memory already: identified by its tensors, never loaded and never saved."""

from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from thalweg.capture._failures import refuse_invented_tokenizer, refuse_larger_tokenizer, refuse_other_kinds
from thalweg.capture._identity import identity_in_directory, identity_of_configuration, identity_of_model
from thalweg.capture._named import IdentifiedModel
from thalweg.capture._parts import context_of
from thalweg.capture._untouched import plain_model
from thalweg.errors import UsageError
from thalweg.options import LoadOptions


def given_name(model: Any) -> str:
    """What a model in memory is called: where it was loaded from, or its class where it was built.

    Raises:
        ModelError: it holds no transformers model, or several.
    """
    plain = plain_model(model)
    return plain.config._name_or_path or type(plain).__name__


def identify_given(model: Any, tokenizer: Any, options: LoadOptions) -> IdentifiedModel:
    """Identify a model in memory, so that it is the same model as its saved directory.

    Args:
        model: a transformers model, or what wraps one.
        tokenizer: the model's.
        options: nothing may be asked of a loading that does not happen.

    Raises:
        ModelError: it is no decoder-only model, or its tokenizer is missing.
    """
    name, plain = given_name(model), plain_model(model)
    asked = [field.name for field in fields(options) if getattr(options, field.name) != field.default]
    if asked:
        raise UsageError(f"{', '.join(asked)}: {name} is loaded already and used as it is. Leave {asked[0]} out.")
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        got = "none" if tokenizer is None else type(tokenizer).__name__
        raise UsageError(
            f"tokenizer: {name} is loaded and needs its tokenizer; got {got}. "
            "Pass tokenizer=AutoTokenizer.from_pretrained(...)."
        )
    if any(weight.is_meta for weight in plain.parameters()):
        raise UsageError(f"{name} has weights that are not in memory. Give its directory, with device_map, instead.")
    refuse_other_kinds(name, plain.config)
    refuse_invented_tokenizer(name, tokenizer)
    refuse_larger_tokenizer(name, tokenizer, plain.config)
    weights = _identity(name, plain)
    commit = _commit(name, type(plain), weights)
    return IdentifiedModel(
        name=name,
        source=name,
        reached=False,
        options=options,
        config=plain.config,
        tokenizer=tokenizer,
        revision="main" if commit else "local",
        commit=commit,
        weights=weights,
        configuration=identity_of_configuration(plain.config, tokenizer),
        dtype=str(plain.dtype).removeprefix("torch."),
        context=context_of(plain.config.get_text_config(decoder=True)),
        given=plain,
    )


def _identity(name: str, model: PreTrainedModel) -> str:
    """That of its tensors, where a quantized model lets them be read without changing them."""
    states = (getattr(weight, "quant_state", None) for weight in model.parameters())
    if any(getattr(state, "packing_format_for_cpu", False) for state in states):
        raise UsageError(
            f"{name} has 4-bit weights that its first pass has packed for this processor, which bitsandbytes cannot "
            "read again without changing them. Load it anew, or give its directory."
        )
    try:
        return identity_of_model(model)
    except NotImplementedError as error:  # as of torchao's tensors
        raise UsageError(f"{name} has weights that cannot be read ({error!s:.80}). Give its directory.") from error


def _commit(name: str, kind: type, weights: str) -> str | None:
    """What the name means in the hub's cache, where that is this model; transformers does not say what it loaded."""
    with suppress(HFValidationError):  # a directory, or what was one
        known = try_to_load_from_cache(name, "config.json", revision="main")
        if isinstance(known, str) and identity_in_directory(Path(known).parent, kind) == weights:
            return Path(known).parent.name
    return None
