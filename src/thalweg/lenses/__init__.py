"""What would a model say if it stopped at this state?

Reading order: :mod:`._lens` (what every lens does), :mod:`._logit` (the model's own unembedding on every state),
:mod:`._tuned` (with a translator before it), :mod:`._tuned_files` (tuned lenses on disk and on the hub),
:mod:`._choice` (which of them is asked for), :mod:`._training` (how translators are learned).
"""

from thalweg.lenses._choice import LensChoice, choose_lens
from thalweg.lenses._lens import Lens
from thalweg.lenses._logit import LogitLens
from thalweg.lenses._training import Recipe, Training
from thalweg.lenses._tuned import Translator, TunedLens, translators_of
from thalweg.lenses._tuned_files import TunedFiles, damaged_file, read_tuned, save_tuned, tuned_lens, unembedding_hash

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
