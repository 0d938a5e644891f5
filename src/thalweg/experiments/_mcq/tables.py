"""What multiple choice adds to a run: every column of its tables."""

from thalweg.experiments import _columns as shared
from thalweg.experiments._columns import FLAG, NUMBER, SMALL, TEXT, WHOLE
from thalweg.store import Column, Table, Tables

TABLES = Tables(
    wholes={
        "scores": Table(
            "one task, metric and state",
            (
                *shared.MODEL_KEY,
                Column("lens", TEXT, "`logit` or `tuned`"),
                Column("task", TEXT, "name of the task, or of a group of tasks"),
                Column("group", FLAG, "whether it is lm-eval's own average over a group of tasks"),
                Column("shots", SMALL, "solved examples before each question", "examples"),
                shared.STATE,
                Column(
                    "metric", TEXT, "as lm-eval calls it, such as `acc` or `acc_norm`; with a filter as `acc,filter`"
                ),
                Column(
                    "value",
                    NUMBER,
                    "the score, as lm-eval computes it; NaN with a reason where a log-likelihood is NaN",
                ),
                Column("stderr", NUMBER, "its standard error, as lm-eval computes it; NaN where it gives none"),
                Column("n", WHOLE, "questions", "questions"),
                Column(
                    "chance",
                    NUMBER,
                    "of guessing, mean of 1 / options; NaN for what is no accuracy, or where several options are right",
                    "share",
                ),
                Column("truncated", WHOLE, "requests whose context was cut at the left", "requests"),
                Column("version", TEXT, "of the task, as lm-eval has it"),
                Column("reason", TEXT, "why there is no value; null where there is one"),
            ),
        )
    }
)
