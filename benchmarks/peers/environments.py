"""An environment for each library, made by pip when it is first needed, and the model as every library reads it."""

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.subjects import Measured
from thalweg.capture import identity_of_model

BOTH = ("torch==2.13.0", "transformers==5.23.0")
PINS = {
    "nnsight": ("nnsight==0.8.1", *BOTH),
    "TransformerLens": ("transformer-lens==4.3.0", *BOTH),
}
"""What is installed for a library; those that are not here run where thalweg runs."""


class Missing(Exception):
    """A library that cannot be installed."""


def interpreter(name: str, folder: Path) -> Path:
    """The interpreter of a library's environment, which is made where it is not there or holds other versions.

    Raises:
        Missing: pip says no.
    """
    if name not in PINS:
        return Path(sys.executable)
    place = folder / name.lower()
    python, done = place / "bin" / "python", place / "pins.txt"
    pins = "\n".join(PINS[name])
    if not (done.is_file() and done.read_text() == pins):
        sys.stderr.write(f"{name}: installing {', '.join(PINS[name])} into {place}\n")
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINS[name]]
        ran = subprocess.run(pip, capture_output=True, text=True)
        if ran.returncode:
            said = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")]
            raise Missing(said[0] if said else f"pip ended with {ran.returncode}")
        done.write_text(pins)
    return python


def stored(measured: Measured, folder: Path) -> Path:
    """The model as a directory that every library reads: float32 safetensors with the tokenizer beside them."""
    place = folder / hashlib.sha256(identity_of_model(measured.model).encode()).hexdigest()[:16]
    if not (place / "tokenizer_config.json").is_file():  # what is written last
        measured.model.save_pretrained(place)
        measured.tokenizer.save_pretrained(place)
    return place
