"""Find a model and know it: by its name its files, its configuration and tokenizer, and what identifies its weights."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from thalweg import ranks
from thalweg.capture._adapter import Adapter, find_adapter, without_base
from thalweg.capture._failures import (
    readable_errors,
    refuse_impossible_sizes,
    refuse_invented_tokenizer,
    refuse_larger_tokenizer,
    refuse_other_kinds,
    refuse_unsafe_weights,
    what_is_there,
)
from thalweg.capture._gguf import GgufFile, read_gguf, read_once
from thalweg.capture._hub import commit_in_cache, commit_on_hub
from thalweg.capture._identity import (
    class_of,
    files_on_hub,
    identity_in_directory,
    identity_of_configuration,
    identity_of_files,
    identity_of_stored,
    kept_identity,
    quantization_of,
    stored_in_files,
    weights_in_directory,
    weights_on_hub,
)
from thalweg.capture._kept import name_of
from thalweg.capture._parts import context_of
from thalweg.capture._shared import refuse_unshareable
from thalweg.capture._tokenizer import own_tokenizer
from thalweg.errors import ModelError
from thalweg.names import local_path
from thalweg.options import LoadOptions
from thalweg.paths import file_here

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class IdentifiedModel:
    """A model that has been found but not loaded: everything that a run needs to know it by.

    Attributes:
        name: as asked for.
        source: what is loaded: a directory, or the hub id.
        gguf: the GGUF file in that directory which is loaded.
        options: how it will be loaded.
        config: its configuration.
        tokenizer: its tokenizer.
        revision: as asked for; "main" for the hub's default and "local" for a directory.
        commit: what the hub resolved the revision to.
        reached: whether the hub may be asked; else there is nothing but what is here.
        weights: sha256 over the tensors; None for weights on the hub that were not fetched.
        files: the hub's ids of the weight files; None for a directory.
        configuration: hash over the configuration and the tokenizer.
        dtype: of the computation, such as "bfloat16".
        context: longest prompt the model takes; None where there is no limit.
        adapter: where the model is one, with the base that it is loaded onto.
        given: the model itself, where it was in memory already.
    """

    name: str
    source: str
    options: LoadOptions
    config: Any
    tokenizer: PreTrainedTokenizerBase
    revision: str
    commit: str | None
    reached: bool
    weights: str | None
    configuration: str
    dtype: str
    context: int | None
    files: str | None = None
    gguf: GgufFile | None = None
    adapter: tuple[Adapter, "IdentifiedModel"] | None = None
    given: PreTrainedModel | None = None

    @property
    def quantization(self) -> str | None:
        """How the weights are stored, where it is not as plain numbers."""
        if self.gguf is not None:
            return f"GGUF {self.gguf.quantization}, dequantized"
        return quantization_of(self.config)


def identify_model(
    name: str,
    options: LoadOptions | None = None,
    *,
    directory: Path | None = None,
    tokenizer_directory: Path | None = None,
    fetch: bool = True,
) -> IdentifiedModel:
    """Find a model; its weights are read once, to be known by their content, and not loaded.

    Args:
        name: hub id, directory or GGUF file; of a model, or of an adapter, whose base is found by what it says.
        options: how it will be loaded.
        directory: where the model is, if ``name`` does not say it.
        tokenizer_directory: where its tokenizer is, if not beside its configuration.
        fetch: download weights that are not here and were never identified here; else they stay unknown.

    Raises:
        ModelError: the model cannot be found or reached, is gated, has no safe weights, needs remote code, or is not
            decoder-only.
    """
    options = options or LoadOptions()
    if options.dtype not in ("auto", *DTYPES):
        raise ModelError(f"dtype {options.dtype!r} is unknown; expected auto, {', '.join(DTYPES)}.")
    path = directory or _local(name)
    with readable_errors(name, options.revision), quiet():
        commit = None if path else commit_on_hub(name, options.revision)
        reached = commit is not None if path is None else options.trust_remote_code  # code of its own may be there
        asked = {"revision": commit or options.revision, "local_files_only": not reached}
        adapter = None
        for file in path.iterdir() if path is not None and path.is_dir() else ():
            if file.exists():
                file_here(file, ModelError)
        if path is None or path.is_dir():
            adapter = find_adapter(name, str(path or name), allow_pickle=options.allow_pickle, **asked)
    if adapter is None:
        found = _identified(name, options, path, commit, tokenizer_directory, reached=reached, fetch=fetch)
        if ranks.size() > 1:
            refuse_unshareable(name, found.config, options, found.quantization)
        return found
    base = _base(name, adapter, options, tokenizer_directory, fetch=fetch)
    if ranks.size() > 1:
        refuse_unshareable(name, base.config, options, f"an adapter of {adapter.base}")
    return replace(
        base,
        name=name,
        revision=options.revision or ("local" if path else "main"),
        commit=commit,
        weights=adapter.upon(base.weights),
        files=adapter.upon(base.files),
        adapter=(adapter, base),
    )


def _base(
    name: str, adapter: Adapter, options: LoadOptions, tokenizer_directory: Path | None, *, fetch: bool
) -> IdentifiedModel:
    """What an adapter is loaded onto, with the adapter's own tokenizer where it has one."""
    options = replace(options, revision=adapter.base_revision)
    beside = tokenizer_directory or adapter.tokenizer_directory
    if adapter.holds_base:
        trusted = options.trust_remote_code
        return _identified(adapter.base, options, adapter.directory, None, beside, reached=trusted, fetch=fetch)
    try:
        base = identify_model(adapter.base, options, tokenizer_directory=beside, fetch=fetch)
    except ModelError as error:
        raise without_base(name, adapter, error) from error
    if base.adapter is not None:
        raise ModelError(f"{name} is an adapter of {adapter.base}, an adapter itself. Merge that into its base first.")
    return base


def _identified(
    name: str,
    options: LoadOptions,
    path: Path | None,
    commit: str | None,
    tokenizer_directory: Path | None,
    *,
    reached: bool,
    fetch: bool,
) -> IdentifiedModel:
    """A model that is no adapter."""
    gguf = read_gguf(path) if path is not None and path.suffix == ".gguf" else None
    path = path if gguf is None else gguf.path.parent
    if path is not None and gguf is None and not (path / "config.json").is_file():
        raise ModelError(f"{name or path} has no config.json. {what_is_there(path)}")
    source = str(path) if path else name
    with readable_errors(name, options.revision), quiet(), read_once(gguf):
        asked = asked_for(options, None, reached, gguf)
        if gguf is None:
            stored = stored_in_files(weights_in_directory(path)) if path else []
            refuse_impossible_sizes(name, PreTrainedConfig.get_config_dict(source, **asked)[0], stored)
        config = AutoConfig.from_pretrained(source, **asked)
        commit = None if path else commit_in_cache(name, options.revision, "config.json") or commit
        refuse_other_kinds(name, config)
        _without_kernels(config)
        if path is not None and gguf is None:
            refuse_unsafe_weights(path, allow_pickle=options.allow_pickle)
        blobs = {} if path else weights_on_hub(name, commit, allow_pickle=options.allow_pickle)
    with readable_errors(f"the tokenizer of {name}", options.revision), quiet(), read_once(gguf):
        asked = asked_for(options, commit, reached, None if tokenizer_directory else gguf)
        tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_directory or source), **asked)
        tokenizer = own_tokenizer(name, tokenizer, str(tokenizer_directory or source), asked)
        refuse_invented_tokenizer(name, tokenizer)
        refuse_larger_tokenizer(name, tokenizer, config)
    with readable_errors(name, options.revision), quiet():
        weights = _identity(source, config, gguf, blobs, commit, fetch=fetch and reached)
    return IdentifiedModel(
        name=name,
        source=source,
        options=options,
        config=config,
        tokenizer=tokenizer,
        revision=options.revision or ("local" if path else "main"),
        commit=commit,
        reached=reached,
        weights=weights,
        configuration=identity_of_configuration(config, tokenizer),
        dtype=_dtype(options, config),
        context=context_of(config.get_text_config(decoder=True)),
        files=None if path else files_on_hub(blobs, commit),
        gguf=gguf,
    )


def weights_of(model: IdentifiedModel) -> str | None:
    """What the weights of a model are known by, fetched if they are not here; None where the hub has none to read."""
    if model.weights is not None or model.files is None:
        return model.weights
    if model.adapter is not None:
        adapter, base = model.adapter
        return adapter.upon(weights_of(base))
    blobs = weights_on_hub(model.source, model.commit, allow_pickle=model.options.allow_pickle)
    return _identity(model.source, model.config, None, blobs, model.commit, fetch=model.reached)


def _identity(
    source: str, config: Any, gguf: GgufFile | None, blobs: Mapping[str, str], commit: str | None, *, fetch: bool
) -> str | None:
    kind = class_of(config)
    if gguf is not None:
        return kept_identity([name_of(gguf.path)], None, lambda: identity_of_stored(gguf.tensors))
    if Path(source).is_dir():
        return identity_in_directory(Path(source), kind)
    if not blobs:
        return None
    here = [try_to_load_from_cache(source, file, revision=commit) for file in blobs]

    def compute() -> str:
        return identity_of_files([Path(hf_hub_download(source, file, revision=commit)) for file in blobs], kind)

    ready = fetch or all(isinstance(file, str) for file in here)
    return kept_identity(blobs.values(), kind, compute if ready else None)


def asked_for(options: LoadOptions, commit: str | None, reached: bool, gguf: GgufFile | None = None) -> dict[str, Any]:
    """What every file is asked for with: once the commit is known it is that one, whatever is pushed meanwhile."""
    named = {} if gguf is None else {"gguf_file": gguf.path.name}
    trusted = {"trust_remote_code": options.trust_remote_code}
    return {"revision": commit or options.revision, "local_files_only": not reached, **trusted, **named}


def _without_kernels(config: Any) -> None:
    """Attention kernels that config.json names are not fetched: thalweg's own attention takes their place."""
    if config._attn_implementation not in (None, "eager", "sdpa"):
        config._attn_implementation_internal = None
    for name in config.sub_configs:
        if (part := getattr(config, name, None)) is not None:
            _without_kernels(part)


def _dtype(options: LoadOptions, config: Any) -> str:
    """float32 on processors; as the configuration says on accelerators, and where transformers casts nothing."""
    if options.dtype != "auto":
        return options.dtype
    saved = str(getattr(config.get_text_config(decoder=True), "dtype", None)).removeprefix("torch.")
    return saved if saved in DTYPES and (quantization_of(config) or _is_accelerated(options)) else "float32"


def _is_accelerated(options: LoadOptions) -> bool:
    """Whether any of the model runs elsewhere than on processors."""
    if options.device_map is not None:
        return options.device_map != "cpu" and torch.accelerator.is_available()
    return not (options.device or device_of(None)).startswith("cpu")


def _local(name: str) -> Path | None:
    """The directory or GGUF file that ``name`` means, or None where it is a hub id."""
    path = local_path(name)
    if path is not None and not (path.is_dir() or (path.suffix == ".gguf" and path.is_file())):
        raise ModelError(
            f"{name} is a file; expected a directory with config.json, or a hub id such as openai-community/gpt2."
        )
    return path


def device_of(asked: str | None) -> str:
    """The device that is asked for, or where a model goes by itself; one that cannot be used is refused."""
    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=asked).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise ModelError(f"device {asked!r} cannot be used: {reason}.") from error
    return asked


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own bars and remarks: progress is ours to show, and what matters is an error."""
    shown, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    placing = logging.getLogger("accelerate.big_modeling")  # which says that weights are where they were asked to be
    placing_level = placing.level
    placing.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        placing.setLevel(placing_level)
        transformers_logging.set_verbosity(verbosity)
        if shown:
            transformers_logging.enable_progress_bar()
