"""The bundled default model as a Hugging Face directory inside the package."""

from importlib.resources import files
from pathlib import Path

from thalweg.reference._planted import Plant, planted_llama
from thalweg.reference._tokenizer import byte_tokenizer

__all__ = ["BUNDLED_MODEL", "BUNDLED_PLANT", "bundled_directory", "write_bundled_model"]

BUNDLED_MODEL = "planted"
BUNDLED_PLANT = Plant(write_block=1, remove_block=6, values={17: 1500.0, 42: -900.0}, heads=(0, 2, 3))


def bundled_directory(name: str = BUNDLED_MODEL) -> Path | None:
    """Directory of the bundled model called ``name``; None where no bundled model is called that."""
    return Path(str(files("thalweg.reference"))) / BUNDLED_MODEL if name == BUNDLED_MODEL else None


def write_bundled_model(directory: Path) -> None:
    """Build the bundled model from its plant and save it, weights as safetensors."""
    planted_llama(BUNDLED_PLANT).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
