"""Adapters of PEFT: known by their own file, and loaded onto a base that is loaded as any other model is.

Never through peft's automatic class, which imports the modules that the file names.
"""

import hashlib
import json
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from thalweg.capture._identity import identity_of_files, weights_in_directory
from thalweg.errors import ModelError

CONFIGURATION, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
INCIDENTAL = ("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type")
"""What adapter_config.json says beside what the adapter does."""
NOWHERE = {"adapter_kwargs": {"subfolder": "none of the adapters beside the weights"}}
"""Where transformers looks for an adapter of its own accord: whether it is loaded shall not depend on peft."""


@dataclass(frozen=True)
class Adapter:
    """An adapter, not loaded.

    Attributes:
        kind: as peft calls it, such as "LORA".
        directory: where its files are.
        weights: its file of weights.
        base: the model that it was trained on, a hub id or a path; its own directory where that holds one.
        base_revision: which revision of it.
        identity: sha256 over its weights and its settings.
    """

    kind: str
    directory: Path
    weights: Path
    base: str
    base_revision: str | None
    identity: str

    @property
    def holds_base(self) -> bool:
        """Whether the base is beside it."""
        return self.base == str(self.directory)

    @property
    def tokenizer_directory(self) -> Path | None:
        """Its own directory, where a tokenizer is there."""
        return self.directory if any((self.directory / name).is_file() for name in TOKENIZER) else None

    def upon(self, base: str | None) -> str | None:
        """What base and adapter together are known by, where it is known what the base is known by."""
        both = f"{base} {self.identity}"
        return None if base is None else f"sha256:{hashlib.sha256(both.encode()).hexdigest()}"


def find_adapter(name: str, source: str, *, allow_pickle: bool, **asked: Any) -> Adapter | None:
    """The adapter that a model's name means, or None where it is none.

    Args:
        name: as asked for.
        source: a directory or a hub id.
        allow_pickle: whether its weights may be pickled.
        asked: how the hub is asked, as transformers takes it.

    Raises:
        ModelError: peft is missing, or the adapter cannot be measured.
    """

    def file(wanted: str) -> Path | None:
        quietly = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
        found = cached_file(source, wanted, **asked, **quietly)
        return None if found is None else Path(found)

    configuration = file(CONFIGURATION)
    if configuration is None:
        return None
    if find_spec("peft") is None:
        raise ModelError(f"{name} is an adapter, which needs peft, which is not installed. Run: pip install peft")
    settings = _settings(name, configuration)
    weights = file(WEIGHTS) or file(PICKLED)
    if weights is None:
        raise ModelError(f"{name} is an adapter without weights: expected {WEIGHTS} beside {CONFIGURATION}.")
    if weights.name == PICKLED and not allow_pickle:
        raise ModelError(
            f"{name} is an adapter with pickled weights ({PICKLED}), which can run code when read. Convert them to "
            "safetensors, or pass --allow-pickle if you trust them."
        )
    directory = configuration.parent
    inside = (directory / "config.json").is_file() and bool(weights_in_directory(directory))
    base = str(directory) if inside else settings.get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise ModelError(f"{name} is an adapter that names no base. Write it into {CONFIGURATION}: {_BASE}.")
    known = {key: value for key, value in settings.items() if key not in INCIDENTAL}
    settled = json.dumps(known, sort_keys=True) + identity_of_files([weights], None)
    digest = hashlib.sha256(settled.encode()).hexdigest()
    revision = None if inside else settings.get("revision")
    return Adapter(settings["peft_type"], directory, weights, base, revision, f"sha256:{digest}")


_BASE = "base_model_name_or_path, a hub id or a directory"


def without_base(name: str, adapter: Adapter, error: ModelError) -> ModelError:
    """What to say where the base cannot be had."""
    return ModelError(
        f"{name} is an adapter of {adapter.base}, which cannot be measured: {error} Put the base there, or write "
        f"another place for it into {adapter.directory / CONFIGURATION} ({_BASE})."
    )


def _settings(name: str, file: Path) -> dict[str, Any]:
    """What the file says, where peft would do no more with it than change weights."""
    from peft import PeftConfig

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config: Any = PeftConfig.from_pretrained(str(file.parent))
    settings = json.loads(file.read_text())
    kind = settings["peft_type"]
    if config.is_prompt_learning or config.is_adaption_prompt or kind == "XLORA":
        raise ModelError(
            f"{name} is an adapter of the kind {kind}, which adds more than weights; thalweg measures those that "
            "change weights, such as LORA."
        )
    if getattr(config, "megatron_config", None):  # peft would import whatever megatron_core names
        raise ModelError(f"{name} is an adapter for megatron, which is not run. Take megatron_config out of {file}.")
    return settings


def adapted(name: str, adapter: Adapter, base: PreTrainedModel) -> PreTrainedModel:
    """Load an adapter onto its base; beside it the weights of the base stay as they are.

    Raises:
        ModelError: they do not belong together.
    """
    from peft import PeftConfig, PeftModel

    if any(weight.is_meta for weight in base.parameters()):
        raise ModelError(
            f"{name} is an adapter, and --device-map keeps weights of its base {adapter.base} out of memory, where "
            "peft adds nothing to them. Give more --max-memory, or merge the adapter into its base."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = PeftConfig.from_pretrained(str(adapter.directory))
        config.inference_mode = True
        model = PeftModel(base, config, autocast_adapter_dtype=False)
        mapping = getattr(base, "_checkpoint_conversion_mapping", {})
        how = {"autocast_adapter_dtype": False, "key_mapping": mapping, "torch_device": str(base.device)}
        result = model.load_adapter(str(adapter.directory), "default", **how)
    wrong = [*(f"{key} is missing" for key in result.missing_keys), *(f"{key} is strange" for key in result[1])]
    if wrong:
        raise ModelError(
            f"{name} does not fit its base {adapter.base}: {wrong[0]}, and {len(wrong) - 1} more. Check that the "
            "adapter was trained on this base."
        )
    loaded: Any = model.get_base_model()
    return loaded.eval()
