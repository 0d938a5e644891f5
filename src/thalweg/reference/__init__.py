"""What is known for certain: a model whose massive activation was built in, and the prompts that come with thalweg.

:mod:`._planted` builds the model, :mod:`._tokenizer` its byte tokenizer, :mod:`._bundle` writes both as an ordinary
Hugging Face directory (``python -m thalweg.reference``). ``prompts.jsonl`` was written for this project.
"""

from thalweg.reference._bundle import BUNDLED_MODEL, BUNDLED_PLANT, bundled_directory, write_bundled_model
from thalweg.reference._planted import Plant, planted_llama
from thalweg.reference._tokenizer import byte_tokenizer

__all__ = [
    "BUNDLED_MODEL",
    "BUNDLED_PLANT",
    "Plant",
    "bundled_directory",
    "byte_tokenizer",
    "planted_llama",
    "write_bundled_model",
]
