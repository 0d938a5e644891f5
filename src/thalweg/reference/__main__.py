"""Rebuild the bundled model in place: ``python -m thalweg.reference``."""

from thalweg.reference import bundled_model_path, write_bundled_model

write_bundled_model(bundled_model_path())
