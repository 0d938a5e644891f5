"""Train the model that comes with thalweg: ``python -m training --data gsm8k_train.jsonl --out DIRECTORY``.

An ordinary Llama, trained on grade-school problems, with one thing given to it at initialisation and kept: neurons
that make the first token's row massive, and some that take it away again (:mod:`training.model`). The sinks on it are
learned. A share of the tokens is echoed (:mod:`training.text`): heads then have something to wait for; and every head
pays for what it writes, so that one without work gains by resting.

The run of the monitor, the checkpoints it can be compared with, and the finished model are written under DIRECTORY.
Rows 7,000 and on are held out; the loss on them is printed beside that of an interpolated Kneser-Ney 5-gram. The same
command goes on from the last checkpoint.
"""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    default_data_collator,
)
from transformers.trainer_utils import get_last_checkpoint

from thalweg.monitor import MonitorOptions, watch
from training.kneser_ney import KneserNey
from training.model import Price, Shape, build, plant
from training.text import BEGIN, ECHOES, Sequences, problems, train_tokenizer

HELD_OUT = 7000
ORDER = 5
WARM_UP, DECAY = 50, 0.3


class Echoed(IterableDataset[dict[str, Tensor]]):
    """The training sequences, without end."""

    def __init__(self, sequences: Sequences) -> None:
        self.sequences = sequences

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for tokens in self.sequences:
            one = torch.from_numpy(tokens)
            yield {"input_ids": one, "labels": one}


class Priced(Trainer):
    """A Trainer whose loss has the price of what heads write added to it."""

    def __init__(self, price: Price, weight: float, **options: Any) -> None:
        super().__init__(**options)
        self.price, self.weight = price, weight

    def compute_loss(self, *inputs: Any, **options: Any) -> Any:
        """The model's own loss, and the price."""
        self.price.paid.clear()
        return super().compute_loss(*inputs, **options) + self.weight * self.price.take()


def main() -> None:
    """Train, save, compare."""
    options = _parsed()
    out = Path(options.out)
    texts = problems(options.data)
    train, held = texts[:HELD_OUT], texts[HELD_OUT:]
    tokenizer = train_tokenizer(train, size=options.vocabulary, context=Shape.context)
    begin = tokenizer.convert_tokens_to_ids(BEGIN)
    shape = Shape(**{field.name: getattr(options, field.name) for field in fields(Shape) if field.name != "context"})
    model = build(shape, vocabulary=len(tokenizer), begin=begin, seed=options.seed)
    model.to("cuda" if torch.cuda.is_available() else "cpu")  # before what is planted: it holds masks of its gradients
    planted = plant(model, begin=begin, value=options.value)
    trainer = _trainer(model, tokenizer, planted, train, options)
    last = get_last_checkpoint(str(out / "checkpoints")) if (out / "checkpoints").is_dir() else None
    if last is None:
        trainer.save_model(str(out / "checkpoints" / "checkpoint-0"))
    trainer.train(resume_from_checkpoint=last if last and not last.endswith("checkpoint-0") else None)
    save(model, tokenizer, out / "model")
    figures = compare(model, tokenizer, train, held)
    (out / "loss.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help=".jsonl with question and answer, or with text")
    parser.add_argument("--out", required=True, help="directory for the monitor's run, checkpoints and the model")
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--batch", type=int, default=8, help="sequences of a step")
    parser.add_argument("--length", type=int, default=256, help="tokens of a sequence, BOS included")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--echo", type=float, default=0.1, help="share of tokens that are echoed")
    parser.add_argument("--value", type=float, default=2500.0, help="norm of the massive row at initialisation")
    parser.add_argument("--price", type=float, default=0.01, help="weight of what heads pay for writing")
    parser.add_argument("--vocabulary", type=int, default=1024)
    for name in ("blocks", "width", "heads", "depth", "hidden"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Shape, name))
    parser.add_argument("--every", type=int, default=100, help="steps between two measurements, and two checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _trainer(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    planted: list[nn.Parameter],
    texts: list[str],
    options: argparse.Namespace,
) -> Trainer:
    tokens = tokenizer([text + "\n\n" for text in texts], add_special_tokens=False)["input_ids"]
    marks = tokenizer.convert_tokens_to_ids(list(ECHOES))
    begin = tokenizer.convert_tokens_to_ids(BEGIN)
    sequences = Sequences(tokens, begin=begin, marks=marks, length=options.length, echo=options.echo, seed=options.seed)
    arguments = TrainingArguments(
        output_dir=str(Path(options.out) / "checkpoints"),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch,
        max_grad_norm=1.0,
        logging_steps=50,
        save_steps=options.every,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        seed=options.seed,
        dataloader_pin_memory=False,
        include_num_input_tokens_seen="no",
    )
    optimizer = torch.optim.AdamW(_groups(model, planted), lr=options.learning_rate, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _schedule(step, options.steps))
    trainer = Priced(
        Price(model),
        options.price,
        model=model,
        args=arguments,
        train_dataset=Echoed(sequences),
        processing_class=tokenizer,
        data_collator=default_data_collator,
        optimizers=(optimizer, schedule),
    )
    every = MonitorOptions(every=options.every)
    watch(trainer, out=Path(options.out) / "run", name="reference (planted)", options=every)
    return trainer


def _groups(model: nn.Module, planted: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Weight decay for matrices; it would eat what was planted, and the large logits that a sink is made of."""
    kept = {id(parameter) for parameter in planted}
    kept |= {id(one) for name, one in model.named_parameters() if "q_proj" in name or "k_proj" in name}
    decayed = [one for one in model.parameters() if one.ndim > 1 and id(one) not in kept]
    spared = [one for one in model.parameters() if one.ndim < 2 or id(one) in kept]
    return [{"params": decayed, "weight_decay": 0.1}, {"params": spared, "weight_decay": 0.0}]


def _schedule(step: int, steps: int) -> float:
    """Warm-up, a long plateau, and a linear end: what was trained up to there can be trained longer."""
    return min(1.0, (step + 0.25) / WARM_UP) * min(1.0, max(0.02, (1.0 - step / steps) / DECAY))


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """The finished model as a Hugging Face directory: weights in float16, to be computed with in float32."""
    half = LlamaForCausalLM(model.config).half()
    half.load_state_dict(model.state_dict())
    half.save_pretrained(path)
    config = LlamaConfig.from_pretrained(path, use_cache=True)
    config.dtype = torch.float32
    config.save_pretrained(path)
    tokenizer.save_pretrained(path)


@torch.no_grad()
def compare(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, train: list[str], held: list[str]
) -> dict[str, float]:
    """Nats a token on held-out problems, each on its own and without echo marks: the model, and the n-gram."""
    seen, asked = (tokenizer(texts)["input_ids"] for texts in (train, held))
    context = model.config.max_position_embeddings
    asked = [tokens[:context] for tokens in asked]
    model.eval()
    losses = [
        float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        for ids in (torch.tensor([one], device=model.device) for one in asked)
    ]
    tokens = sum(len(one) - 1 for one in asked)
    own = math.fsum(losses) / tokens
    gram = KneserNey(seen, order=ORDER, vocabulary=len(tokenizer)).loss(asked)
    return {"tokens": tokens, "model": own, "kneser_ney_5": gram, "margin": gram - own}


if __name__ == "__main__":
    main()
