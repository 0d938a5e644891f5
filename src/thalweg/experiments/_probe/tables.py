"""What probes adds to a run: every column of its tables."""

from thalweg.experiments import _columns as shared
from thalweg.experiments._columns import FLAG, NUMBER, SMALL, TEXT, WHOLE
from thalweg.store import Column, Table, Tables

SPLIT = Column("split", TEXT, "`train`, `validation` or `test`")

TABLES = Tables(
    wholes={
        "splits": Table(
            "one split",
            (
                *shared.DATA_KEY,
                SPLIT,
                Column("source", TEXT, "what the split was read from, or a share of what"),
                Column("rows", WHOLE, "rows of the data that were read for it", "rows"),
                Column("examples", WHOLE, "texts with a class and with tokens; of pairs one for each option", "texts"),
                Column("questions", WHOLE, "questions among them; null where rows are no questions", "questions"),
                Column("skipped", TEXT, "rows that gave no example, by reason"),
                Column("classes", SMALL, "how many classes there are", "classes"),
                Column(
                    "chance",
                    NUMBER,
                    "accuracy of guessing: 1 over the classes, or the mean of 1 over the options of each question",
                    "share",
                ),
                Column(
                    "majority",
                    NUMBER,
                    "accuracy of always giving the most frequent class of the training split; NaN for pairs",
                    "share",
                ),
            ),
        ),
        "accuracy": Table(
            "one split and state",
            (
                *shared.DATA_KEY,
                SPLIT,
                shared.STATE,
                Column(
                    "accuracy",
                    NUMBER,
                    "share of right answers; NaN where a feature of the state is not finite",
                    "share",
                ),
                Column("low", NUMBER, "lower end of Wilson's 95% interval of `accuracy`", "share"),
                Column("high", NUMBER, "upper end of the interval that `low` begins", "share"),
                Column("n", WHOLE, "answers: examples, or questions where they are read in pairs", "answers"),
                Column("loss", NUMBER, "mean cross entropy of the classifier over the examples, in nats", "nats"),
                Column(
                    "converged",
                    FLAG,
                    "whether scikit-learn's fit of this state converged; null for a layer trained by Adam",
                ),
            ),
        ),
    }
)
