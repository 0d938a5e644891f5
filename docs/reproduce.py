"""Write docs/reproduce.md: each figure of the paper with its command, and what its recipe draws here.

    make reproduced                     # SmolLM2, and the reference model's training for Figures 2, 12 and 14
    make reproduced DATA=folder         # GSM8K, WikiText-2, ARC and SST-2 from files instead of the hub

What is measured already stays under ``runs/reproduced``; pictures are kept beside the page.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evidence import task_of
from PIL import Image

from thalweg.errors import ThalwegError
from thalweg.recipes import Recipe, Reproduced, recipes, reproduce

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
MODEL = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
TRAINING = (2, 12, 14)
BESIDE = {
    **dict.fromkeys(TRAINING, "Checkpoints of the reference model's training (training/run)."),
    32: "The tasks are MTEB's own, their sentences made for this page: so few say nothing of the model.",
}
"""What else is to be known of a picture."""
PLACE = ROOT / "runs" / "reproduced"
LIMIT, COLOURS = 16, 96
CHANGES = {
    "lens": {"block_length": 256, "steps": 12, "step_tokens": 256},
    "mcq": {"limit": 50},
    "probe": {"limit": 500},
}


def main() -> None:
    """Draw every figure and write the page."""
    began = time.monotonic()
    done = {figure: drawn(figure, data(figure)) for figure in recipes()}
    (DOCS / "reproduce.md").write_text("\n".join(page(done)) + "\n", encoding="utf-8")
    sys.stderr.write(f"{time.monotonic() - began:.0f} s\n")


def data(figure: int) -> dict[str, Any]:
    """What takes the place of the paper's data, by verb."""
    small = {"mteb": small_tasks()}
    prompts = {9: "bundled", 10: "wikitext2"}.get(figure, "gsm8k")
    if "DATA" not in os.environ:
        return {"": prompts, **small}
    folder = Path(os.environ["DATA"])
    for name in ("arc_easy", "arc_challenge"):
        task_of(folder / f"{name}_test.jsonl", name, PLACE / "tasks")
    labelled = ("arc_easy_test.jsonl",) if figure == 8 else ("sst2_train.tsv", "arc_easy_train.jsonl")
    files = {"gsm8k": "gsm8k_train.jsonl", "wikitext2": "wikitext2_test.txt"}
    return {
        "": str(folder / files[prompts]) if prompts in files else prompts,
        "lens": str(folder / files["wikitext2"]),
        "mcq": str(PLACE / "tasks"),
        "probe": tuple(str(folder / name) for name in labelled),
        **small,
    }


def small_tasks() -> list[Any]:
    """Tasks of MTEB over a few sentences made here."""
    sys.path.append(str(ROOT))
    from tests.local_mteb import classification_task, similarity_task

    return [similarity_task(PLACE / "embedding"), classification_task(PLACE / "embedding")]


def drawn(figure: int, given: dict[str, Any]) -> Reproduced:
    """Draw one figure, its picture beside the page."""
    model = ROOT / "training" / "run" if figure in TRAINING else MODEL
    began = time.monotonic()
    try:
        done = reproduce(str(figure), model=model, data=given, limit=LIMIT, changes=CHANGES, out=PLACE)[0]
    except ThalwegError as error:
        done = Reproduced(figure, recipes()[figure].shows, PLACE, reason=str(error))
    sys.stderr.write(f"figure {figure}: {time.monotonic() - began:.0f} s {done.reason or ''}\n")
    pictures = DOCS / "figures"
    pictures.mkdir(exist_ok=True)
    for file in (file for file in done.files if file.suffix == ".png"):
        with Image.open(file) as picture:  # a few colours are enough, and keep the page small
            picture.convert("RGB").quantize(COLOURS).save(pictures / file.name, optimize=True)
    return done


def page(done: dict[int, Reproduced]) -> Iterator[str]:
    """The lines of the page."""
    yield "<!-- Written by docs/reproduce.py: run `make reproduced`. Do not edit. -->"
    yield "\n# Every figure of the paper from one command\n"
    yield (
        "`thalweg reproduce N` measures what is missing with the paper's models, data and settings and draws Figure N; "
        "`thalweg list figures` says what each costs. The same recipes run on another model and other data with "
        f"`--model`, `--data` and `--limit`. The pictures are drawn of SmolLM2-135M-Instruct, {LIMIT} prompts, those "
        "of training of the reference model's checkpoints. What is not as in the paper stands under each."
    )
    for figure, one in done.items():
        recipe = recipes()[figure]
        yield f"\n## Figure {figure}\n\n{recipe.shows[0].upper()}{recipe.shows[1:]}.\n"
        yield f"    thalweg reproduce {figure}\n"
        yield from (f"![Figure {figure}](figures/{file.name})\n" for file in one.files if file.suffix == ".png")
        yield from under(recipe, one)


def under(recipe: Recipe, one: Reproduced) -> Iterator[str]:
    """What stands under a picture."""
    if one.reason:
        yield f"Not drawn here: {one.reason}\n"
    if recipe.remark:
        yield f"{recipe.remark}\n"
    if recipe.figure in BESIDE:
        yield f"{BESIDE[recipe.figure]}\n"
    yield f"{'; '.join(one.substituted)}.".replace("_", r"\_")


if __name__ == "__main__":
    main()
