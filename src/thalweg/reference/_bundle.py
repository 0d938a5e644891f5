"""The bundled models as Hugging Face directories inside the package: one trained, one built."""

from importlib.resources import files
from pathlib import Path

from thalweg.reference._planted import Plant, byte_tokenizer, planted_llama

BUNDLED_MODEL = "reference"
BUNDLED_PLANT = Plant(write_block=1, remove_block=6, values={17: 1500.0, 42: -900.0}, heads=(0, 2, 3))
PLANTED = {
    "reference": "its massive activation was planted at initialisation and kept; the rest, its sinks too, was trained",
    "planted": "its massive activation and its sinks were built in; nothing of it is trained",
}
"""The bundled models by name, and how each came to its massive activation."""


def bundled_directory(name: str = BUNDLED_MODEL) -> Path | None:
    """Directory of the bundled model called ``name``; None where no bundled model is called that."""
    return Path(str(files("thalweg.reference"))) / name if name in PLANTED else None


def how_planted(name: str) -> str | None:
    """What has to be said wherever a bundled model is shown; None for any other model."""
    return PLANTED.get(name)


def write_planted_model(directory: Path) -> None:
    """Build the bundled model that is not trained from its plant and save it, weights as safetensors."""
    planted_llama(BUNDLED_PLANT).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
