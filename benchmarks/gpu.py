"""What measuring costs beside a plain forward pass on this machine's GPU, and that it is right there.

    python benchmarks/gpu.py --out docs/benchmarks/gpu.json

Prints Markdown tables and writes them for docs/benchmarks.md; some five minutes. It needs torch with CUDA, triton,
transformers, accelerate, pydantic, cyclopts and jaxtyping, and `src` on the path. Times are medians after a first
run, in milliseconds with all waiting included, on random weights and tokens; memory is the peak above what was held
before. Parts: exactness, attention, eigenvalues, models, long; ``--only`` runs some. Without a GPU, ``--tiny`` tries
everything on a processor, and says nothing about speed.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "--tiny" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is loaded

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM

from thalweg import metrics
from thalweg.capture import AttentionSeen, Subject, observe, subject_of
from thalweg.metrics._spectra import spectra
from thalweg.metrics._vectors import state_vectors
from thalweg.streaming import LogitRule, blockwise_attention, streamed_attention

TINY = "--tiny" in sys.argv
DEVICE = "cpu" if TINY else "cuda"
SHAPES: dict[str, dict[str, int]] = {
    "8B": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "0.5B": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
}
TARGETS: dict[Any, str] = {"0.5B": "2", 200: "1.25", 1024: "2.4", 2**17: "1.8"}
"""Of a shape, else by the longest prompt: measured over the plain forward, at most."""
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
Rows = list[list[str]]


class Reduced:
    """What a survey makes of a batch, without its tables."""

    def __init__(self, lengths: Tensor, *, without_massive: bool) -> None:
        self.states = metrics.StatesOfBatch(lengths, without_massive=[without_massive] * len(lengths))
        self.heads = metrics.HeadsOfBatch(lengths)

    def state(self, _: int, state: Tensor, /) -> None:
        """Every state."""
        self.states.see(state)

    def attention(self, block: int, seen: AttentionSeen, /) -> None:
        """Every block."""
        own = {"key": seen.key, "value": seen.value, "outputs": seen.outputs, "factors": seen.factors}
        self.heads.see(block, vars(seen.statistics), **own)


@torch.no_grad()
def measured(subject: Subject, tokens: Tensor, lengths: Tensor, *, without_massive: bool = False) -> tuple[Any, Any]:
    """One batch, every state and head; without massive rows too, as a survey does for its first prompts."""
    reduced = Reduced(lengths, without_massive=without_massive)
    with observe(subject, reduced, lengths):
        forward(subject, tokens)
    return reduced.states.measured(), reduced.heads.measured()


@torch.no_grad()
def forward(subject: Subject, tokens: Tensor) -> None:
    """The same batch as the model would run it."""
    subject.parts.body(input_ids=tokens, use_cache=False)


def synchronize() -> None:
    """Wait for the device."""
    if not TINY:
        torch.cuda.synchronize()


def milliseconds(run: Callable[[], Any], runs: int = 5) -> float:
    """Median after a first run."""
    run()
    taken = list[float]()
    for _ in range(1 if TINY else runs):
        synchronize()
        start = time.perf_counter()
        run()
        synchronize()
        taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken)


def once(run: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds of one run, and GiB above what was held before."""
    if not TINY:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = 0 if TINY else torch.cuda.memory_allocated()
    synchronize()
    start = time.perf_counter()
    run()
    synchronize()
    highest = 0 if TINY else torch.cuda.max_memory_allocated()
    return (time.perf_counter() - start) * 1e3, (highest - before) / 2**30


def model(shape: str, context: int = 2**17, **changes: Any) -> Subject:
    """A Llama of random weights in bfloat16."""
    torch.manual_seed(0)
    sizes = SHAPES[shape] | {"vocab_size": 1000, "max_position_embeddings": context}
    if TINY:
        sizes |= {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
        sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    with torch.device(DEVICE):
        made = LlamaForCausalLM(LlamaConfig(**sizes, **changes))
    return subject_of(made.to(torch.float32 if TINY else torch.bfloat16).eval())


def batch(prompts: int, longest: int, shortest: int | None = None) -> tuple[Tensor, Tensor]:
    """Random tokens, and how many are real."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(shortest or longest, longest, prompts).long()
    return torch.randint(0, 1000, (prompts, longest), generator=generator).to(DEVICE), lengths


def distance(found: Tensor, wanted: Tensor) -> str:
    """|found - wanted| / |wanted|."""
    wanted = wanted.double()
    return f"{float((found.double() - wanted).norm() / wanted.norm()):.0e}"


def exactness() -> Rows:
    """Kernels, medians and spectra against float64; states of the device against the processor's."""
    return [*_attention_is_right(), *_states_are_right(), *_model_is_right()]


def _attention_is_right() -> Rows:
    tokens, depth = (40, 16) if TINY else (517, 128)
    generator = torch.Generator(DEVICE).manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, device=DEVICE, generator=generator)

    rules: dict[str, tuple[LogitRule, int | None]] = {
        "causal": (LogitRule(), None),
        "window of 100": (LogitRule(), 100),
        "soft-cap, sink logits": (LogitRule(softcap=5.0, sink_logits=random(8)), None),
        "bias of the keys": (LogitRule(bias=random(1, 8, 1, tokens)), 64),
    }
    found: Rows = []
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        query, key, value = (random(2, heads, tokens, depth).to(dtype) for heads in (8, 2, 2))
        lengths = torch.tensor([tokens, tokens // 2], device=DEVICE)
        for name, (rule, window) in rules.items():
            options: dict[str, Any] = {"window": window, "lengths": lengths}
            ours = streamed_attention(query, key, value, rule=rule, **options)
            double = [each.double() for each in (query, key, value)]
            wide = LogitRule(
                softcap=rule.softcap,
                bias=None if rule.bias is None else rule.bias.double(),
                sink_logits=None if rule.sink_logits is None else rule.sink_logits.double(),
            )
            exact = blockwise_attention(*double, rule=wide, **options)
            vectors = ("column_mass", "row_entropy", "diagonal", "row_sum")
            errors = [
                f"{each} {distance(getattr(ours.statistics, each)[0], getattr(exact.statistics, each)[0])}"
                for each in vectors
            ]
            errors.append(f"output {distance(ours.output[0], exact.output[0])}")
            found.append([f"attention, {name}, {str(dtype)[6:]}", ", ".join(errors)])
    return found


def _states_are_right() -> Rows:
    found: Rows = []
    for tokens, width in ((20, 48), (48, 20)) if TINY else ((300, 768), (900, 256)):
        for dtype in (torch.bfloat16, torch.float32):
            generator = torch.Generator().manual_seed(1)
            state = torch.randn(4, tokens, width, generator=generator) * torch.linspace(0.2, 3, width)
            state += 2 * torch.randn(width, generator=generator)
            state[1:, 0] *= 100
            state[2, tokens // 3] *= 70
            lengths = torch.tensor([tokens, tokens - 7, tokens, tokens // 2])
            state = state.to(dtype)
            pair = []
            for place in ("cpu", DEVICE):
                states = metrics.StatesOfBatch(lengths)
                for _ in range(2):
                    states.see(state.to(place))
                columns = states.measured().columns
                pair.append({name: values for name, values in columns.items() if name != "reason"})
            here, there = pair
            worst = max(
                (float(np.abs((column - _floats(there[name])) / np.maximum(np.abs(column), 1e-2)).max()), name)
                for name, column in ((name, np.array(_floats(column))) for name, column in here.items())
                if not name.startswith("dominance")
            )
            same = all(here[name] == there[name] for name in ("massive_rank", "peak_dim", "row_position"))
            medians = state_vectors(state.to(DEVICE), lengths.to(DEVICE)).median.tolist() == here["median_abs"][:4]
            said = f"worst {worst[0]:.0e} ({worst[1]}), positions {'equal' if same else 'DIFFER'}"
            said += f", medians {'equal' if medians else 'DIFFER'}"
            found.append([f"states, {tokens} x {width}, {str(dtype)[6:]}, against the processor's", said])
    return found


def _model_is_right() -> Rows:
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "head_dim": 32}
    torch.manual_seed(0)
    config = LlamaConfig(**sizes, num_attention_heads=8, num_key_value_heads=2, vocab_size=1000)
    made = LlamaForCausalLM(config).eval()
    tokens, lengths = batch(4, 150, 90)
    results = []
    for place in ("cpu", DEVICE):
        states, heads = measured(subject_of(made.to(place)), tokens.to(place), lengths)
        columns = {**states.columns, **heads.columns}
        results.append({name: torch.tensor(_floats(values)) for name, values in columns.items() if name != "reason"})
    here, there = results
    worst = max((float((here[name] - there[name]).abs().max() / here[name].abs().max()), name) for name in here)
    return [["a Llama of 4 blocks in float32, against the processor's", f"worst {worst[0]:.0e} ({worst[1]})"]]


def _floats(values: Sequence[Any]) -> list[float]:
    return [float(value) if value is not None and value == value else -1.0 for value in values]


def attention() -> Rows:
    """Kernels over the fastest of torch's."""
    rows: Rows = []
    for prompts, tokens in ((1, 40),) if TINY else ((82, 200), (16, 1024), (2, 8192), (1, 32768)):
        shapes = ((prompts, heads, tokens, 16 if TINY else 128) for heads in (32, 8, 8))
        query, key, value = (torch.randn(*each, device=DEVICE, dtype=torch.bfloat16) for each in shapes)
        if TINY:
            query, key, value = query.float(), key.float(), value.float()
        repeated = [each.repeat_interleave(4, 1) for each in (key, value)]
        plain = {"default": lambda q=query, k=key, v=value: scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=True)}  # fmt: skip
        if not TINY:
            from torch.nn.attention import SDPBackend, sdpa_kernel

            for name, backend in (("flash", SDPBackend.FLASH_ATTENTION), ("cuDNN", SDPBackend.CUDNN_ATTENTION)):

                def run(q: Tensor = query, others: Any = repeated, backend: Any = backend) -> None:
                    with sdpa_kernel(backend):
                        scaled_dot_product_attention(q, *others, is_causal=True)

                plain[name] = run
        times = dict[str, float]()
        for name, each in plain.items():
            try:
                times[name] = milliseconds(each, 10)
            except RuntimeError:
                continue
        ours = milliseconds(lambda q=query, k=key, v=value: streamed_attention(q, k, v), 10)
        best = min(times, key=lambda name: times[name])
        rows.append(
            [
                f"{prompts} x {tokens:,}",
                f"{times[best]:.2f} ({best})",
                f"{ours:.2f}",
                f"{ours / times[best]:.2f}",
                "2.5",
            ]
        )
    return rows


def eigenvalues() -> Rows:
    """Spectra of bfloat16 states, with one row thirty times the others."""
    rows: Rows = []
    for size, number in (
        ((20, 3),) if TINY else ((200, 2706), (256, 1056), (512, 512), (1024, 33), (1024, 512), (4096, 4))
    ):
        states = torch.randn(min(number, 64), size, size + 76, device=DEVICE)
        states[:, 0] *= 30
        grams = (states @ states.mT).repeat(-(-number // len(states)), 1, 1)[:number].contiguous()
        ranks = torch.full((number,), size, device=DEVICE)
        taken = milliseconds(lambda g=grams, r=ranks: spectra(g, r), 3)
        found, again = spectra(grams, ranks)
        exact = torch.linalg.eigvalsh(grams[:2].double().cpu()).flip(-1)
        entropy, wanted = metrics.entropy(found[:2].cpu()), metrics.entropy(exact)
        rows.append(
            [
                f"{size} ({number:,})",
                f"{taken / number:.3f}",
                f"{float(((entropy - wanted) / wanted).abs().max()):.0e}",
                f"{int(again.sum()):,}",
            ]
        )
    return rows


def models() -> Rows:
    """Everything over the plain forward."""
    rows: Rows = []
    for shape, batches in {
        "8B": ((82, 200, 150), (16, 1024, None)),
        "0.5B": ((82, 200, 150), (8, 200, 150)),
    }.items():
        subject = model(shape)
        for prompts, longest, shortest in batches:
            if TINY:
                prompts, longest, shortest = 2, 30, 20
            tokens, lengths = batch(prompts, longest, shortest)
            name = f"{shape}, {prompts} x {f'{shortest}-' if shortest else ''}{longest:,}"
            target = TARGETS.get(shape, TARGETS.get(longest, ""))
            rows.append([*_compared(name, subject, tokens, lengths), target])
        if shape == "8B":
            name += ", also without massive rows"
            rows.append([*_compared(name, subject, tokens, lengths, without_massive=True), ""])
        del subject
    return rows


def _compared(name: str, subject: Subject, tokens: Tensor, lengths: Tensor, **options: bool) -> list[str]:
    ways = (lambda: forward(subject, tokens)), (lambda: measured(subject, tokens, lengths, **options))
    plain, ours = milliseconds(ways[0]), milliseconds(ways[1], 3)
    memory = [once(way)[1] for way in ways]
    (least, _), (launched, waits) = (_launches(way) for way in ways)
    return [*_costs(name, plain, ours, *memory), f"{launched / max(1, least):.1f}", str(waits)]


def _costs(name: str, plain: float, ours: float, *memory: float) -> list[str]:
    return [name, f"{plain:,.0f}", f"{ours:,.0f}", f"{ours / plain:.2f}", ", ".join(f"{each:.1f}" for each in memory)]


def _launches(run: Callable[[], Any]) -> tuple[int, int]:
    """Kernels that were launched, and waits for the device."""
    if TINY:
        return 0, 0
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        run()
    counts = {event.key: event.count for event in seen.key_averages()}
    launched = sum(count for key, count in counts.items() if "LaunchKernel" in key)
    return launched, sum(count for key, count in counts.items() if key in WAITS)


def long() -> Rows:
    """One prompt of 131,072 tokens, once."""
    subject = model("8B")
    rows: Rows = []
    for number in (50, 60) if TINY else (32768, 131072):
        tokens, lengths = batch(1, number)
        plain, least = once(lambda tokens=tokens: forward(subject, tokens))
        ours, most = once(lambda tokens=tokens, lengths=lengths: measured(subject, tokens, lengths))
        rows.append([*_costs(f"8B, 1 x {number:,}", plain, ours, least, most), TARGETS.get(number, "")])
    return rows


TARGET = "target: at most"
COSTS = [
    "prompts x tokens",
    "forward, ms",
    "measured, ms",
    "ratio",
    "memory of both, GiB",
    "launches over the forward's",
    "waits",
]
PARTS: dict[str, tuple[str, list[str], Callable[[], Rows]]] = {
    "exactness": ("Against float64 and the processor", ["what", "relative error"], exactness),
    "attention": (
        "Attention, 32 and 8 heads of 128",
        ["prompts x tokens", "SDPA, ms", "ours, ms", "ratio", TARGET],
        attention,
    ),
    "eigenvalues": (
        "Eigenvalues of a batch of Gram matrices",
        ["n (matrices)", "ms a matrix", "error of the entropy", "again in float64"],
        eigenvalues,
    ),
    "models": ("Everything over the plain forward, bfloat16", [*COSTS, TARGET], models),
    "long": ("One long prompt", [*COSTS[:5], TARGET], long),
}


def main() -> None:
    """Run the parts, print tables, write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts")
    parser.add_argument("--out", type=Path, help="where to write the tables as JSON")
    parser.add_argument("--tiny", action="store_true", help="try it without a GPU")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    card = "a processor" if TINY else torch.cuda.get_device_name()
    found = {
        "command": "python benchmarks/gpu.py",
        "card": card,
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "tables": list[Any](),
    }
    print(f"{card}, torch {torch.__version__}")
    for part in options.only:
        title, columns, run = PARTS[part]
        start = time.perf_counter()
        rows = run()
        found["tables"].append({"title": title, "columns": columns, "rows": rows})
        print(f"\n{title} ({time.perf_counter() - start:.0f} s)\n")
        for row in (columns, ["---"] * len(columns), *rows):
            print(f"| {' | '.join(row)} |", flush=True)
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(found, indent=1) + "\n")
        if not TINY:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
