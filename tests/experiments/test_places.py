"""A model on one accelerator or two gives the processor's numbers in every experiment, and mixes no devices.

A verb asks an accelerator for little, too: it waits as often for many prompts and blocks as for few, and launches few
kernels beside those of the plain forward.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from families import BLOCKS, VOCABULARY, WIDTH, tiny
from pretend import pretended, put
from thalweg import metrics
from thalweg.capture import Subject, prove, subject_of
from thalweg.experiments import _planned as planning
from thalweg.experiments._ablate import measure as ablating
from thalweg.experiments._attribute.measure import segment_frames
from thalweg.experiments._clip import measure as clipping
from thalweg.experiments._features import POOLINGS, TextFeatures
from thalweg.experiments._heads import measure as mapping
from thalweg.experiments._intervened import OnDemand
from thalweg.experiments._lens.measure import Decoder
from thalweg.experiments._mcq.measure import LogLikelihoods, Request
from thalweg.experiments._pass import read
from thalweg.experiments._planned import Plan, Target
from thalweg.experiments._scan.measure import _followed
from thalweg.experiments._survey.batch import MeasureOptions, measure_batch
from thalweg.interventions import Clamp
from thalweg.lenses import LogitLens, Translator, TunedLens
from thalweg.metrics import _spectra
from thalweg.prompts import Prompt
from thalweg.store import Thresholds

FAMILIES = ("llama", "gpt2", "falcon", "bloom", "gemma3_text", "gpt_oss")
Tables = Mapping[str, pl.DataFrame]


def prompts(*lengths: int) -> list[Prompt]:
    generator = torch.Generator().manual_seed(1)
    tokens = [torch.randint(2, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]
    return [Prompt(row, tuple(own), "", f"{row}", truncated=False) for row, own in enumerate(tokens)]


BATCH = prompts(11, 1)
BY_PEAK = Target("spike", 1, 1, 1, 1, 1, 0, None, (3, 5), 1.0, 0.1)
BY_HAND = Target("compress", 2, 3, 2, 3, 2, 4, 4, (3,), 1.0, 0.1)
PLAN = Plan((BY_PEAK, BY_HAND))
THRESHOLDS = Thresholds(tau=0.3, sink_position=0, massive_ratio=1.5)


def bare(kind: type, **fields: Any) -> Any:
    """An object that has no more than it is asked for."""
    made = object.__new__(kind)
    vars(made).update(fields)
    return made


KNOWN = WeakKeyDictionary[Any, tuple[OnDemand, LogitLens]]()
"""By model, what is proved once of each."""


def known(subject: Subject) -> tuple[OnDemand, LogitLens]:
    if subject.model not in KNOWN:
        lens, model = LogitLens(subject), SimpleNamespace(tokenizer=SimpleNamespace(decode=str))
        KNOWN[subject.model] = bare(OnDemand, _proved=(subject, lens.unembedding), model=model), lens
    return KNOWN[subject.model]


def clipping_of(subject: Subject, plan: Plan) -> Any:
    asked = clipping.Asked((0.5, 2.0), (0, 1, 3), massive_only=False)
    part = SimpleNamespace(header=SimpleNamespace(thresholds=THRESHOLDS), options=THRESHOLDS)
    return bare(clipping._Clipping, part=part, loading=known(subject)[0], asked=asked, plan=plan)


def verify(subject: Subject) -> Tables:
    checks = prove(subject)
    assert all(check.passed for check in checks)
    return {"checks": pl.DataFrame([(check.name, check.passed) for check in checks], orient="row")}


def survey(subject: Subject) -> Tables:
    found = measure_batch(subject, BATCH, MeasureOptions(massive_ratio=THRESHOLDS.massive_ratio))
    norms = pl.concat(found.row_norms)
    return {"layers": pl.DataFrame(found.layers, strict=False), "heads": pl.DataFrame(found.heads), "norms": norms}


def variants(subject: Subject) -> Tables:
    found = measure_batch(subject, BATCH[:1], MeasureOptions(variants=True))
    return {"layers": pl.DataFrame(found.layers, strict=False)}


def plan(subject: Subject) -> Tables:
    reader = planning._SizesOf(BATCH, 4)
    read(subject, BATCH, reader)
    rows = [(one.prompt.row, one.norms.tolist(), one.peaks.tolist(), str(one.massive)) for one in reader.rows]
    return {"sizes": pl.DataFrame(rows, ("prompt", "norms", "peaks", "massive"), orient="row")}


def ablate(subject: Subject) -> Tables:
    blocks = {"spike": (0,), "compress": (1, 2)}
    chosen = ablating.Chosen(PLAN, blocks, {}, {name: {} for name in blocks})
    named = [
        (ablating.INTACT, {}),
        ("blocks 0-2", {"blocks": (0, 1, 2)}),
        (ablating.NOTHING, {"blocks": (0, 1)}),
        (f"{ablating.EMPTIED} compress", {"row_of": "compress", "dims": (3, 5)}),
    ]
    conditions = [ablating.Condition(name, **how) for name, how in named]
    return ablating._measured(known(subject)[0], conditions, chosen, THRESHOLDS, BATCH)


def clip(subject: Subject) -> Tables:
    return clipping._measured(clipping_of(subject, PLAN), (0.5,), BATCH)


def clip_coordinates(subject: Subject) -> Tables:
    """Some coordinates alone, and the prompts that say where a sweep begins."""
    reader = clipping._Entropies(clipping_of(subject, Plan((BY_HAND,))), BATCH, changed=False)
    read(subject, BATCH, reader, interventions=[Clamp((1, 2), 0.3, (0,), dims=(1, 4))])
    rows = [(*place, *both) for place, both in reader.rows.items()]
    return {"entropies": pl.DataFrame(rows, orient="row")}


def attribute(subject: Subject) -> Tables:
    frames = segment_frames(subject, PLAN, BATCH, ranks=2)
    return {name: pl.concat([frame[name] for frame in frames], how="vertical_relaxed") for name in frames[0]}


def lens(subject: Subject) -> Tables:
    generator = torch.Generator().manual_seed(0)
    place = known(subject)[1].unembedding.device
    weights = [(torch.randn(WIDTH, WIDTH, generator=generator) / 99).to(place) for _ in subject.parts.blocks]
    translators = tuple(Translator(weight, weight[0]) for weight in weights)
    model = known(subject)[1]
    tuned = bare(TunedLens, model=model, last=model.last, translators=translators)
    return {
        "logit": Decoder(subject, model, model).rows(BATCH),
        "tuned": Decoder(subject, model, tuned).rows(BATCH),
    }


def features(subject: Subject) -> Tables:
    found = {}
    for pooling in POOLINGS:
        own: Any = SimpleNamespace(_pooling=pooling, subject=subject, measured=0)
        _, rows = TextFeatures._pooled(own, BATCH)
        found[pooling] = pl.DataFrame(rows.reshape(-1, WIDTH))
    return found


def mcq(subject: Subject) -> Tables:
    asked = [[Request(prompt.tokens, (3, 4)[: len(prompt)]), Request(prompt.tokens, (5,))] for prompt in BATCH]
    own: Any = SimpleNamespace(lens=known(subject)[1], subject=subject, passes=0)
    _, values = LogLikelihoods._answered(own, BATCH, asked)
    return {"likelihoods": pl.DataFrame(values[..., 0]), "greedy": pl.DataFrame(values[..., 1])}


def heads(subject: Subject) -> Tables:
    blocks, found = tuple(range(BLOCKS)), {}
    for name, chosen in (("named", (0, 2)), ("nearest", None)):
        asked = mapping.Asked(0, blocks, False, chosen, 64)
        own = mapping._looked_at(subject, asked, {}, 0, BATCH[:1])
        maps = [(*place, sum(values)) for place, values in sorted(own.maps.found.items())]
        found[f"{name} numbers"] = own.numbers.drop("phase")
        found[f"{name} maps"] = pl.DataFrame(maps, orient="row").cast({"column_2": pl.Float64})
        found[f"{name} tokens"] = own.tokens.states
        found[f"{name} received"] = own.tokens.blocks
    return found


def scan(subject: Subject) -> Tables:
    found = _followed(subject, [5, 6, 7])
    return {"norms": pl.DataFrame(found.norms), "values": pl.DataFrame(found.values.reshape(3, -1))}


VERBS: dict[str, Callable[[Subject], Tables]] = {
    verb.__name__: verb
    for verb in (
        verify,
        survey,
        variants,
        plan,
        ablate,
        clip,
        clip_coordinates,
        attribute,
        lens,
        features,
        mcq,
        heads,
        scan,
    )
}


@pytest.fixture(scope="module", params=FAMILIES)
def processor(request):
    return request.param, subject_of(tiny(request.param))


@pytest.fixture(scope="module", params=[(0,), (0, 1)], ids=["one place", "two places"])
def placed(request, processor):
    with pretended():
        return subject_of(put(tiny(processor[0]), *request.param))


@pytest.fixture(autouse=True)
def eigenvalues_on_the_processor(request, monkeypatch):
    """Their many small steps are taken on the device for the survey alone: pretending them is slow."""
    if request.node.callspec.params.get("verb") != "survey":
        monkeypatch.setattr(_spectra, "_solved_here", lambda _: False)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_gives_the_processors_numbers(processor, placed, verb):
    expected = VERBS[verb](processor[1])
    with pretended():
        found = VERBS[verb](placed)
    assert set(found) == set(expected)
    for name, table in expected.items():
        assert table.height
        assert_frame_equal(found[name], table, rel_tol=1e-5, abs_tol=1e-5)


FEW, MANY = prompts(11, 1), prompts(11, 10, 9, 1)
DEPTHS = {"survey": (24,)}  # of what is done once a batch, little models would see too much
PASSES = {"clip": 3, "attribute": 2, "features": 2, "lens": 2}
"""Of the verbs that run a batch more than once."""
BOUNDS = {
    "survey": (22, 4.0),
    "plan": (6, 1.6),
    "clip": (19, 1.8),
    "clip_coordinates": (4, 1.1),
    "attribute": (14, 1.4),
    "features": (8, 1.2),
    "lens": (10, 2.4),
    "mcq": (5, 1.7),
}
"""Of a batch: waits over all passes, launches over those of as many plain forwards. Of a survey's waits five are
solvers and two start vectors, which cost none on CUDA: 15 were counted on an H200. The maps of `heads` may be large and
leave the device block by block; every condition of `ablate` costs what one of `clip` does."""
OTHERS = {"attention", "attribution", "heads", "padded", "predictions"}
FILES = [path.stem.removeprefix("_") for path in Path(metrics.__file__).parent.glob("*.py")]
OF_STATES = tuple(f"metrics/_{file}.py" for file in FILES if file not in OTHERS)
"""The metrics of states are counted for the survey alone."""


def counted(seen: Counter[str], *left_out: str) -> int:
    """Asked for by thalweg or the model, but for some files; not by this one."""
    return sum(count for line, count in seen.items() if not line.startswith((*left_out, "elsewhere")))


@pytest.fixture(scope="module")
def deep(request):
    with pretended() as seen:
        subject = subject_of(put(tiny("llama", blocks=request.param), 0))
        seen.reset()
        with torch.no_grad():
            subject.parts.body(input_ids=torch.zeros(2, 11, dtype=torch.long, device=subject.device), use_cache=False)
        return subject, request.param, seen.launches.total()


@pytest.mark.parametrize(
    ("deep", "verb"),
    [(blocks, verb) for verb in BOUNDS for blocks in DEPTHS.get(verb, (BLOCKS, 5))],
    indirect=["deep"],
)
def test_waits_are_those_of_a_batch_and_launches_few(deep, verb, monkeypatch):
    (subject, blocks, forward), found = deep, []
    for batch in (FEW, MANY):
        monkeypatch.setattr(sys.modules[__name__], "BATCH", batch)
        with pretended() as seen:
            if not found:
                VERBS[verb](subject)  # what is known of the model from then on
                seen.reset()
            VERBS[verb](subject)
        left_out = () if verb == "survey" else OF_STATES
        # of attention and its statistics two kernels a block are launched where they run
        streamed = 2 * blocks * (seen.launches.total() > counted(seen.launches, "streaming/"))
        launches = (counted(seen.launches, "streaming/", *left_out) + streamed) / forward
        found.append((counted(seen.waits, *left_out), launches / PASSES.get(verb, 1)))
        print(f"{verb}, {len(batch)} prompts, {blocks} blocks: waits {found[-1][0]}, launches {found[-1][1]:.2f}")  # noqa: T201 - read with -s
    waits, launches = BOUNDS[verb]
    assert verb == "survey" or found[0][0] == found[1][0]
    assert max(own for own, _ in found) <= waits, str(seen)
    assert max(own for _, own in found) <= launches, str(seen)
