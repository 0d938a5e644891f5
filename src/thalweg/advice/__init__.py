"""Which state to take, for embeddings and for an early exit, by what a run has measured?

Tables in, sentences with numbers out: no model, no torch, nothing is measured. What the tables cannot say is named,
with the command that would measure it.

In reading order: ``_answer`` what is told · ``_states`` which state embeds best, and where to stop · ``_advise`` all of
it, model by model.
"""

from thalweg.advice._advise import advise
from thalweg.advice._answer import Advice, Answer, Exit, Unanswered

__all__ = ["Advice", "Answer", "Exit", "Unanswered", "advise"]
