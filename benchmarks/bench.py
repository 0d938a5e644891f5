"""What a survey costs beside a plain forward pass, and beside the usual way of measuring: ``make bench``.

All figures are ratios of paired runs in one process (A B A B ...), medians with their range, so that they hold on a
noisy machine; memory is the peak of a process of its own, above what it held before the pass.

(a) survey (measurement, tables, files) over a plain SDPA forward of the same batches through the body of the model;
(b) the usual way, eager attention with every map and state kept and singular values for each layer, over ours;
(c) peak memory above the weights, ours and the usual way's; the latter grows as T squared and is extrapolated so;
(d) what the monitor adds to a training at its default interval: seconds of a measurement over seconds of a training
    step, timed in turn, and from it the share of the time. The run holds some measurements already, as it does in a
    training; what there is to sum up grows with them, slowly.
(e) the logit lens by one run for each layer (a forward pass with its logits, of which one state is read and compared)
    over `thalweg lens` (one pass for all states), for a small and a larger vocabulary: the unembedding is the cost;
(f) linear probes by one run for each layer (a forward pass that keeps every state, of which one is pooled and a torch
    layer trained on it) over `thalweg probe` (one pass, features written and read back, all layers trained together);
    the target is 0.6 times the number of states.
(g) a task of MTEB at every state by one run for each (a forward pass that keeps every state, of which one is pooled)
    over `thalweg mteb` (one pass, features written and read back), both through mteb's own evaluation; the target is
    0.6 times the number of states.

(h) multiple choice at all states by `thalweg mcq`, from the task's YAML to its scores, over lm-eval's own run for the
    last state together with the unembedding of the other states; below it over lm-eval's run alone.

(i) the report of six models with 80 blocks of 64 heads each: its size, and the seconds from opening it in Chromium to
    the charts in view, at the curves through depth and at the maps of heads.

``--only a`` and so on runs a part.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import re
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from thalweg.capture import IdentifiedModel, Subject, subject_of
from thalweg.engines import BatchOptions, run_shards
from thalweg.experiments import SurveyOptions, TextFeatures, open_survey
from thalweg.experiments._lens.measure import Decoder
from thalweg.experiments._probe import Recipe
from thalweg.experiments._probe.classifiers import train_linear, training_order
from thalweg.experiments._survey.batch import BatchRows, MeasureOptions, frames, measure_batch
from thalweg.lenses import LogitLens
from thalweg.monitor import Monitor, MonitorOptions
from thalweg.options import LoadOptions
from thalweg.prompts import Prompt, Row, Shard, batches, padded, tokenization, tokenize
from thalweg.reference import byte_tokenizer
from thalweg.store import DataFacts, ModelFacts, RunHeader
from thalweg.store import Shard as Part

WIDTH, HEADS, BLOCKS, CONTEXT = 768, 12, 12, 16384
BATCH = BatchOptions(4096)
MEMORY_OURS, MEMORY_BOTH = 16384, 2048
MEASURED_BEFORE = 5
QUIET = SurveyOptions(progress=False, bos="never")


def model(vocabulary: int = 256) -> LlamaForCausalLM:
    """12 blocks, d = 768, 12 heads, random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=2048,
        num_hidden_layers=BLOCKS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        vocab_size=vocabulary,
        max_position_embeddings=CONTEXT,
    )
    return LlamaForCausalLM(config).eval()


def prompts(lengths: Sequence[int]) -> list[Prompt]:
    """Random tokens of these lengths."""
    generator = torch.Generator().manual_seed(0)
    return [
        Prompt(row, tuple(torch.randint(0, 256, (length,), generator=generator).tolist()), "", "", truncated=False)
        for row, length in enumerate(lengths)
    ]


def problem_lengths(count: int) -> tuple[str, list[int]]:
    """Words and signs of GSM8K problems where the test data is there, else of the bundled prompts."""
    folder = os.environ.get("THALWEG_TEST_DATA")
    path = Path(folder) / "data" / "gsm8k_train.jsonl" if folder else None
    if path is not None and path.exists():
        rows = [json.loads(line) for line in path.read_text().splitlines()[:count]]
        name, texts = "GSM8K lengths", [f"{row['question']}\n{row['answer']}" for row in rows]
    else:
        from thalweg.prompts import open_source

        name, texts = "bundled lengths", [row.text or "" for row in open_source().rows(0, count)]
    return name, [len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]


def plain(subject: Subject, own: Sequence[Prompt]) -> None:
    """A forward pass through the body, as the model would run it."""
    with torch.no_grad():
        for batch in batches(own, token_budget=BATCH.token_budget):
            subject.parts.body(input_ids=torch.from_numpy(padded(batch)), use_cache=False)


def survey(subject: Subject, own: Sequence[Prompt]) -> None:
    """What `thalweg survey` does once the model is loaded: measure, make tables, write files."""
    facts = ModelFacts(name="m", weights="random", dtype="float32", blocks=BLOCKS, heads=HEADS, width=WIDTH)
    header = RunHeader(models=(facts,), data=(DataFacts(name="d", hash="0", template="{text}"),))
    tokenizer = byte_tokenizer()
    with tempfile.TemporaryDirectory() as folder, open_survey(Path(folder) / "run", header) as writer:

        def finish(shard: Shard, results: list[BatchRows]) -> None:
            key = {"model": "m", "revision": "main", "data": "d"}
            place = Part("m", "main", "d", shard.first, shard.stop)
            writer.write_part(place, frames(results, shard.prompts, key, tokenizer, header))

        shard = Shard(0, len(own), tuple(own), ())
        measure = MeasureOptions()
        run_shards([shard], measure=lambda batch: measure_batch(subject, batch, measure), finish=finish, options=BATCH)


def usual(subject: Subject, own: Sequence[Prompt]) -> None:
    """Eager attention, every map and state kept, sink scores from the maps, singular values of every state."""
    config: Any = subject.model.config
    before, config._attn_implementation = config._attn_implementation, "eager"
    with torch.no_grad():
        for prompt in own:
            found = subject.parts.body(
                input_ids=torch.tensor([prompt.tokens]),
                use_cache=False,
                output_attentions=True,
                output_hidden_states=True,
            )
            for one in found.attentions:
                one.mean(2)
                torch.special.entr(one).sum(-1).mean(-1)
            for state in found.hidden_states:
                torch.linalg.svdvals(state[0])
    config._attn_implementation = before


def paired(one: Callable[[], None], other: Callable[[], None], runs: int) -> list[float]:
    """Ratios one / other of pairs run in turn, after one of each."""
    one(), other()
    return [_seconds(one) / _seconds(other) for _ in range(runs)]


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peak_above_weights(way: str, length: int) -> int:
    """Bytes that a pass over one prompt needs above what the process held before it, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (way, length))


def _peak(way: str, length: int) -> int:
    subject, own = subject_of(model()), prompts([length])
    run = {"ours": survey, "usual": usual}[way]
    run(subject, prompts([32]))  # libraries and pools of threads are there before the measurement
    _give_back()
    before = _resident()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is resident now
    run(subject, own)
    return _status("VmHWM") - before


def _give_back() -> None:
    ctypes.CDLL(None).malloc_trim(0)


def _resident() -> int:
    return _status("VmRSS")


def _status(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run the comparisons and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="pairs of runs per row")
    parser.add_argument("--prompts", type=int, default=16, help="problems in the first row")
    parser.add_argument(
        "--only",
        choices=("a", "b", "c", "d", "e", "f", "g", "h", "i"),
        nargs="+",
        default=("a", "b", "c", "d", "e", "f", "g", "h", "i"),
        help="parts",
    )
    options = parser.parse_args()
    table = Table(
        title=f"12 blocks, d = 768, 12 heads, float32, {torch.get_num_threads()} threads", title_justify="left"
    )
    for column in ("comparison", "prompts", "median", "range", "target"):
        table.add_column(column, justify="left" if column == "comparison" else "right")
    if {"a", "b"} & set(options.only):
        time_rows(table, options)
    if "c" in options.only:
        memory_rows(table)
    if "d" in options.only:
        monitor_row(table, options.runs)
    if "e" in options.only:
        lens_rows(table, options.runs)
    if "f" in options.only:
        probe_row(table, options)
    if "g" in options.only:
        embedding_row(table, options)
    if "h" in options.only:
        mcq_rows(table, options.runs)
    if "i" in options.only:
        page_rows(table, options.runs)
    Console(width=120).print(table)


def time_rows(table: Table, options: argparse.Namespace) -> None:
    """Parts (a) and (b)."""
    subject = subject_of(model())
    name, lengths = problem_lengths(options.prompts)
    shapes = ((f"{name}, mean {statistics.mean(lengths):.0f}", lengths, "1.3"), ("T = 1024", [1024, 1024], "1.6"))
    for what, sizes, target in shapes if "a" in options.only else ():
        own = prompts(sizes)
        ratios = paired(lambda own=own: survey(subject, own), lambda own=own: plain(subject, own), options.runs)
        table.add_row(f"(a) survey / plain forward, {what}", str(len(own)), *_ratio(ratios), f"<= {target}")
        print(".", end="", file=sys.stderr, flush=True)
    for what, sizes, _ in shapes if "b" in options.only else ():
        own = prompts(sizes[:4])
        ratios = paired(lambda own=own: usual(subject, own), lambda own=own: survey(subject, own), options.runs)
        table.add_row(f"(b) usual way / survey, {what}", str(len(own)), *_ratio(ratios), ">= 3")
        print(".", end="", file=sys.stderr, flush=True)


def memory_rows(table: Table) -> None:
    """Part (c)."""
    peaks = {
        (way, length): peak_above_weights(way, length)
        for way, length in (("ours", MEMORY_OURS), ("ours", MEMORY_BOTH), ("usual", MEMORY_BOTH))
    }
    guess = peaks["usual", MEMORY_BOTH] * (MEMORY_OURS / MEMORY_BOTH) ** 2
    for what, amount, target in (
        (f"(c) peak above the weights, survey, T = {MEMORY_OURS:,}", peaks["ours", MEMORY_OURS], "<= 1 GB"),
        (f"(c) peak above the weights, survey, T = {MEMORY_BOTH:,}", peaks["ours", MEMORY_BOTH], ""),
        (f"(c) peak above the weights, usual way, T = {MEMORY_BOTH:,}", peaks["usual", MEMORY_BOTH], ""),
        (f"(c) usual way, T = {MEMORY_OURS:,}, extrapolated as T squared", guess, ""),
    ):
        table.add_row(what, "1", f"{amount / 1e9:.2f} GB", "", target)


def monitor_row(table: Table, runs: int) -> None:
    """Part (d): a small Llama that trains on batches of 16 sequences of 256 tokens."""
    trained = small_model()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    options = MonitorOptions(strict=True)
    count, shares, costs, steps = 0, list[float](), list[float](), list[float]()

    def train() -> None:
        batch = torch.randint(0, 256, (16, 256), generator=generator)
        trained(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def measure() -> None:
        nonlocal count
        monitor.measure(trained, count)
        count += 1

    with tempfile.TemporaryDirectory() as folder:
        monitor = Monitor(byte_tokenizer(), out=Path(folder) / "run", options=options)
        for _ in range(MEASURED_BEFORE):
            measure()
        train()
        for _ in range(runs):
            costs.append(_seconds(measure))
            steps.append(_seconds(train))
            shares.append(costs[-1] / (costs[-1] + options.every * steps[-1]))
        monitor.finish()
    print(".", end="", file=sys.stderr, flush=True)
    what = f"(d) monitor's share of a training, every {options.every} steps, {MEASURED_BEFORE} measured before"
    low, high = min(shares), max(shares)
    table.add_row(what, str(options.prompts), f"{statistics.median(shares):.2%}", f"{low:.2%}-{high:.2%}", "< 2%")
    ratios = [cost / step for cost, step in zip(costs, steps, strict=True)]
    seconds = f"{statistics.median(costs):.2f} s over {statistics.median(steps):.2f} s"
    table.add_row(f"    a measurement over a training step, {seconds}", str(options.prompts), *_ratio(ratios), "")


def probe_row(table: Table, options: argparse.Namespace) -> None:
    """Part (f): texts of two classes, the paper's recipe."""
    subject = subject_of(model())
    lengths = [12 + 5 * row % 37 for row in range(options.prompts)]  # as sentences have
    texts = [chr(97 + row % 26) * length for row, length in enumerate(lengths)]  # a byte a token
    classes = torch.arange(len(texts)) % 2
    run = partial(probed, subject, texts, classes)
    ratios = paired(partial(probed_by_layer, subject, texts, classes), run, options.runs)
    print(".", end="", file=sys.stderr, flush=True)
    what = f"(f) probes, one run a layer / one pass for {BLOCKS + 1} states, mean {statistics.mean(lengths):.0f}"
    table.add_row(what, str(len(texts)), *_ratio(ratios), f">= {0.6 * (BLOCKS + 1):.1f}")


def probed(subject: Subject, texts: Sequence[str], classes: torch.Tensor) -> None:
    """What `thalweg probe` does once the model is loaded: features to disk, all states trained together."""
    with tempfile.TemporaryDirectory() as folder:
        found = TextFeatures(identified(subject), folder, options=QUIET, subject=lambda: subject)(texts)
        train_linear(found, np.arange(len(texts)), classes, 2, Recipe())


def identified(subject: Subject) -> IdentifiedModel:
    """The model as if it had been found by name."""
    facts = dict.fromkeys(("name", "source", "revision", "commit", "weights", "configuration"), "random")
    known: Any = {**facts, "options": LoadOptions(), "dtype": "float32", "context": CONTEXT}
    return IdentifiedModel(config=subject.model.config, tokenizer=byte_tokenizer(), **known)


def probed_by_layer(subject: Subject, texts: Sequence[str], classes: torch.Tensor) -> None:
    """The same, a forward pass over all texts for each layer."""
    how = tokenization(byte_tokenizer(), bos=QUIET.bos)
    own = tokenize([Row(row, text) for row, text in enumerate(texts)], how).prompts
    recipe = Recipe()
    for layer in range(BLOCKS + 1):
        features = torch.zeros(len(texts), WIDTH)
        with torch.no_grad():
            for batch in batches(own, token_budget=BATCH.token_budget):
                tokens = torch.from_numpy(padded(batch))
                states = subject.parts.body(input_ids=tokens, use_cache=False, output_hidden_states=True).hidden_states
                for prompt, state in zip(batch, states[layer], strict=True):
                    features[prompt.row] = state[: len(prompt)].mean(0)
        probe = torch.nn.Linear(WIDTH, 2)
        optimizer = torch.optim.Adam(probe.parameters(), lr=recipe.learning_rate)
        for step in training_order(len(texts), recipe):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(probe(features[step]), classes[step]).backward()
            optimizer.step()


def embedding_row(table: Table, options: argparse.Namespace) -> None:
    """Part (g)."""
    from embeddings import embedding_ways  # imports mteb, which the other parts do without

    subject = subject_of(model())
    name, lengths = problem_lengths(options.prompts // 4)
    texts = [chr(97 + row % 26) * (length + row) for row, length in enumerate(lengths)]  # each of them another one
    by_run, from_one_pass, states = embedding_ways(subject, identified(subject), texts, QUIET, BATCH.token_budget)
    ratios = paired(by_run, from_one_pass, min(options.runs, 2))
    print(".", end="", file=sys.stderr, flush=True)
    what = f"(g) mteb, one run a state / one pass for {states} states, {name}"
    table.add_row(what, str(len(texts)), *_ratio(ratios), f">= {0.6 * states:.1f}")


def lens_rows(table: Table, runs: int) -> None:
    """Part (e)."""
    own = prompts([128])
    for vocabulary, target in ((256, 0.6 * (BLOCKS + 1)), (16384, 2.0)):
        subject = subject_of(model(vocabulary))
        lens = LogitLens(subject)
        decoder = Decoder(subject, lens, lens)
        ratios = paired(partial(one_run_a_layer, subject, own), partial(decoder.rows, own), runs)
        what = f"(e) lens: one run a layer / one pass, {BLOCKS + 1} states, vocabulary {vocabulary:,}"
        table.add_row(what, "1", *_ratio(ratios), f">= {target:.1f}")
        print(".", end="", file=sys.stderr, flush=True)


@torch.no_grad()
def one_run_a_layer(subject: Subject, own: Sequence[Prompt]) -> None:
    """For each layer the model is run, and what that layer predicts is compared with what the model says."""
    model: Any = subject.model
    for layer in range(BLOCKS + 1):
        for prompt in own:
            tokens = torch.tensor([prompt.tokens])
            found = model(input_ids=tokens, output_hidden_states=True, use_cache=False)
            last, state = found.logits[0, :-1].log_softmax(-1), found.hidden_states[layer][0, :-1]
            # in the model's own list the last state has its norm behind it
            read = model.lm_head(state if layer == BLOCKS else model.model.norm(state)).log_softmax(-1)
            torch.nn.functional.nll_loss(read, tokens[0, 1:], reduction="sum")
            torch.special.entr(read.exp()).sum()
            (read.argmax(-1) == last.argmax(-1)).sum()
            (last.exp() * (last - read)).sum()


def mcq_rows(table: Table, runs: int) -> None:
    """Part (h): questions with four options, a byte a token; lm-eval is loaded for this part alone."""
    from multiple_choice import mcq_ratios

    what, over_both, over_one = mcq_ratios(model(4096), byte_tokenizer(), runs)
    print(".", end="", file=sys.stderr, flush=True)
    name = f"(h) mcq at {BLOCKS + 1} states / one lm-eval run + their unembedding, {what}"
    table.add_row(name, "", *_ratio(over_both), "<= 1.5")
    table.add_row("    the same over the lm-eval run alone", "", *_ratio(over_one), "")


def page_rows(table: Table, runs: int) -> None:
    """Part (i)."""
    from page import page_numbers

    size, seconds = page_numbers(runs)
    print(".", end="", file=sys.stderr, flush=True)
    table.add_row("(i) report of 6 models x 80 blocks x 64 heads", "", f"{size:.2f} MB", "", "< 6 MB")
    for place, each in seconds.items():
        median, (low, high) = statistics.median(each), (min(each), max(each))
        table.add_row(f"    opened at #{place}", "", f"{median:.2f} s", f"{low:.2f}-{high:.2f}", "< 2 s")


def small_model() -> LlamaForCausalLM:
    """8 blocks, d = 128, 4 heads: 1.7 million weights, as small as a model in training gets."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=1024,
        max_position_embeddings=512,
        attention_dropout=0.1,
    )
    return LlamaForCausalLM(config).train()


def _ratio(ratios: list[float]) -> tuple[str, str]:
    return f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f}-{max(ratios):.2f}"


if __name__ == "__main__":
    main()
