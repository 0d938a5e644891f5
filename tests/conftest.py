import os
import sys
import tempfile
from pathlib import Path

import huggingface_hub
import pytest
from hypothesis import settings

# Tiny models gain nothing from threads and lose a lot to them where tests run side by side; set before torch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TRITON_INTERPRET"] = "1"  # kernels run on the processor; read when triton is loaded, by whomever
os.environ["THALWEG_CACHE"] = tempfile.mkdtemp(prefix="thalweg-cache-")
# How long an example takes says how busy the machine is, and is no test.
settings.register_profile("thalweg", deadline=None)
settings.load_profile("thalweg")
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """A hub's cache of the test's own, and no hub."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """A real pretrained Llama of 30 blocks as a GGUF file."""
    folder = os.environ.get("THALWEG_TEST_DATA")
    if not folder:
        pytest.skip("THALWEG_TEST_DATA names no folder with models/smollm2")
    return Path(folder) / "models" / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
