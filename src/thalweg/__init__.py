"""Follow a language model through its depth."""

__version__ = "0.1.0"
