"""What does a run say, on one page that anyone can open?

``report.html`` answers first, in words and numbers: does this model have massive activations, where do they begin and
end, which heads sink. Charts, tables, the run's facts and definitions follow. One file, no network.

In reading order: ``_words`` numbers as people read them · ``_massive`` and ``_sinks`` the answers · ``_theory`` the
theorem · ``_tables`` and ``_facts`` the tables · ``_charts`` plotly's JSON · ``_training`` checkpoints and sizes ·
``_contrast`` top and bottom prompts · ``_interventions`` ablation and clipping · ``_probe`` linear classifiers ·
``_lens`` what every state predicts · ``_mteb`` states as embeddings · ``_mcq`` multiple choice · ``_page`` all of it,
with ``page.html.j2``, ``page.css`` and ``page.js``.
"""

from thalweg.report._massive import Answer, massive_answer, massive_table, where_answer
from thalweg.report._page import write_report
from thalweg.report._sinks import SinkingHeads, sink_answer, sinking_heads
from thalweg.report._theory import TheoremVerdict, Tightness, theorem_verdict

__all__ = [
    "Answer",
    "SinkingHeads",
    "TheoremVerdict",
    "Tightness",
    "massive_answer",
    "massive_table",
    "sink_answer",
    "sinking_heads",
    "theorem_verdict",
    "where_answer",
    "write_report",
]
