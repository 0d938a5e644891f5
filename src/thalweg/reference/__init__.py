"""What comes with thalweg: a small trained model, a model of which everything is known, and prompts.

``reference/`` was trained by the recipe in the repository's ``training/``; its massive activation was planted before.
``planted/`` is not trained: :mod:`._planted` builds it and its byte tokenizer, :mod:`._bundle` writes
both as an ordinary Hugging Face directory (``python -m thalweg.reference``). ``prompts.jsonl`` was written for this
project.
"""

from thalweg.reference._bundle import BUNDLED_MODEL, BUNDLED_PLANT, bundled_directory, how_planted, write_planted_model
from thalweg.reference._planted import Earlier, Plant, Push, byte_tokenizer, planted_llama

__all__ = [
    "BUNDLED_MODEL",
    "BUNDLED_PLANT",
    "Earlier",
    "Plant",
    "Push",
    "bundled_directory",
    "byte_tokenizer",
    "how_planted",
    "planted_llama",
    "write_planted_model",
]
