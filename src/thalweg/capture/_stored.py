"""Tensors as they lie in a file: where each begins and ends, without reading any."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file, ``size`` bytes from ``start``."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    size: int

    @property
    def stop(self) -> int:
        """Where its bytes end."""
        return self.start + self.size
