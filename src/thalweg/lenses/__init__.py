"""What would a model say if it stopped at this state?

Reading order: :mod:`._logit` (what every lens does, and the model's own unembedding on every state), :mod:`._tuned`
(with a translator before it, and how translators are learned), :mod:`._tuned_files` (tuned lenses on disk and on the
hub, and which lens is asked for).
"""

from thalweg.lenses._logit import Lens, LogitLens
from thalweg.lenses._tuned import Recipe, Training, Translator, TunedLens, translators_of
from thalweg.lenses._tuned_files import (
    LensChoice,
    TunedFiles,
    choose_lens,
    damaged_file,
    read_tuned,
    save_tuned,
    tuned_lens,
    unembedding_hash,
)

__all__ = [
    "Lens",
    "LensChoice",
    "LogitLens",
    "Recipe",
    "Training",
    "Translator",
    "TunedFiles",
    "TunedLens",
    "choose_lens",
    "damaged_file",
    "read_tuned",
    "save_tuned",
    "translators_of",
    "tuned_lens",
    "unembedding_hash",
]
