"""What MTEB adds to a run: every column of its tables."""

from thalweg.experiments import _columns as shared
from thalweg.experiments._columns import FLAG, NUMBER, TEXT, WHOLE
from thalweg.store import Column, Table, Tables

TASK = Column("task", TEXT, "mteb's name of the task")
TYPE = Column("type", TEXT, "mteb's word for its kind, such as STS; in `means` `all` for every task")
METRIC = Column("metric", TEXT, "the task's main score")
SCORE = Column("score", NUMBER, "main score; NaN where it is undefined; in `tasks` the mean over splits and subsets")

TABLES = Tables(
    wholes={
        "scores": Table(
            "one task, state, split and subset",
            (
                *shared.MODEL_KEY,
                TASK,
                TYPE,
                METRIC,
                shared.STATE,
                Column("split", TEXT, "of the task's data"),
                Column("subset", TEXT, "of the task's data, such as a language"),
                SCORE,
                Column("data_revision", TEXT, "of the task's data on the hub"),
                Column("reason", TEXT, "why there is no score; null where there is one"),
            ),
        ),
        "tasks": Table("one task and state", (*shared.MODEL_KEY, TASK, TYPE, METRIC, shared.STATE, SCORE)),
        "means": Table(
            "one type of task and state",
            (
                *shared.MODEL_KEY,
                TYPE,
                shared.STATE,
                Column(
                    "mean",
                    NUMBER,
                    "of the scores over tasks, each counting once; a score that is undefined is left out",
                ),
                Column("std", NUMBER, "standard deviation over tasks (ddof 1)"),
                Column("low", NUMBER, "lower end of the 95% t interval over tasks; NaN for one task"),
                shared.HIGH,
                Column("n", WHOLE, "tasks that entered", "tasks"),
                Column("behind", NUMBER, "mean over tasks of the best state's score minus this state's"),
                Column("behind_low", NUMBER, "lower end of its 95% t interval, task by task; NaN for one task"),
                Column("behind_high", NUMBER, "upper end of it"),
                Column("best", FLAG, "whether the state has the largest mean among those with most tasks"),
                Column(
                    "tied",
                    FLAG,
                    "whether `behind_low` is at most 0: the tasks do not tell it from the best; null if unknown",
                ),
            ),
        ),
    }
)
