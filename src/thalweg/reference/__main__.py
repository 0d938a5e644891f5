"""Rebuild the bundled model: ``python -m thalweg.reference DIRECTORY``."""

import sys
from pathlib import Path

from thalweg.reference import write_planted_model

write_planted_model(Path(sys.argv[1]))
