import subprocess
import sys

import pytest

from thalweg import prompts


def test_exported_names_are_sorted_and_there():
    assert list(prompts.__all__) == sorted(prompts.__all__)
    assert all(hasattr(prompts, name) for name in prompts.__all__)


def test_exported_names_are_all_that_the_room_defines():
    public = {name for name, value in vars(prompts).items() if getattr(value, "__module__", "").startswith("thalweg")}
    assert public - {"__spec__"} <= set(prompts.__all__)


@pytest.mark.parametrize("work", ["", "next(prompts.open_source().rows())", "prompts.list_data()"])
def test_importing_the_room_and_reading_bundled_prompts_import_nothing_heavy(work):
    heavy = "torch transformers datasets pyarrow polars huggingface_hub"
    check = f"{work}\nsys.exit(str([name for name in '{heavy}'.split() if name in sys.modules]))"
    command = [sys.executable, "-c", f"import sys; from thalweg import prompts; {check}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stderr.strip() == "[]"
