"""The survey: every state and every attention head of every prompt, for models and data sets, into one run."""

import gc
from pathlib import Path
from typing import Annotated, Unpack

from thalweg.errors import ThalwegError
from thalweg.experiments._called import takes_options
from thalweg.experiments._declared import Experiment
from thalweg.experiments._keywords import SurveyKeywords
from thalweg.experiments._options import BUNDLED_MODEL, DATA, Data, Models, SurveyOptions
from thalweg.experiments._survey.tables import TABLES
from thalweg.names import MODEL
from thalweg.store import Run, open_run


@takes_options
def survey(
    models: Annotated[Models, MODEL] = BUNDLED_MODEL,
    data: Annotated[Data | None, DATA] = None,
    *,
    out: str | Path | None = None,
    options: SurveyOptions | None = None,
    **_: Unpack[SurveyKeywords],
) -> Run:
    """Measure every state and every attention head of models on prompts, layer by layer.

    A run that exists is continued: finished shards are not measured again, and a higher ``limit`` extends it. A model
    that it does not hold joins it, on its data, and data join it for its models, where thresholds and lengths agree. It
    can be read without the models. The paper's setting: ``--data gsm8k --max-length 1024 --tau 0.3``.

    On the command line:

        thalweg survey

        thalweg survey EleutherAI/pythia-410m --data gsm8k --limit 500

        thalweg survey ./model-a ./model-b --data prompts.jsonl --data notes.txt --out runs/two

        thalweg survey runs/two --limit 1000

        thalweg survey ./model-c --out runs/two

        thalweg survey runs/two --data more.jsonl

    Args:
        models: hub ids, directories or GGUF files; with thalweg come "reference", which was trained, and "planted",
            which was built. A run stands for its models, their data and how they are read. In Python also loaded
            transformers models, with their ``tokenizer``.
        data: short names, .jsonl, .parquet, .tsv or .txt files, or hub data sets; by default "bundled", the prompts
            that come with thalweg. On the command line --data may be repeated; in Python also a tuple of these, texts,
            a frame, a ``datasets.Dataset``, or several of them by name.
        out: the run directory, ``runs/<model>`` by default; an existing one is continued.
        options: everything else.

    Returns:
        The run, opened for reading: ``run.profile.collect()``.

    Raises:
        UsageError: a model, a data set, an option or the directory cannot be used; the message says what to do.
        KeyboardInterrupt: finished shards stay, and the run's status says interrupted.

    Example:
        >>> run = survey(out="runs/demo")  # doctest: +SKIP
        >>> run.phases.select("compress_first", "compress_last").collect().row(0)  # doctest: +SKIP
        (2, 6)
    """
    from thalweg.experiments._prepare import prepare
    from thalweg.experiments._survey.measure import ModelSurvey, aggregate, open_survey

    prepared = prepare(models, data, out=out, options=options)
    with open_survey(prepared.path, prepared.header, prepared.session, grown=True) as writer:
        try:
            for number, model in enumerate(prepared.models):
                ModelSurvey(prepared, number, writer).run()
                if model.given is None:  # else whoever gave it holds it
                    gc.collect()  # a model's hooks and modules refer to one another; the next one needs the room
        except ThalwegError:
            for model in prepared.models:  # one of which nothing was measured does not join
                writer.remove_model(model.name, model.revision)
            aggregate(writer)  # what came before the one that cannot be measured can be looked at
            raise
        aggregate(writer)
        writer.update(status="finished")
    return open_run(prepared.path)


EXPERIMENT = Experiment(
    name="survey",
    tables={"survey": TABLES},
    function=survey,
    group="Measure",
    answers=(),
    view="thalweg.experiments._survey.view",
    outcome="thalweg.experiments._survey.view",
)
