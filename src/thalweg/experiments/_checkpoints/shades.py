"""Light to dark, told apart with every kind of colour blindness: the later or larger, the darker."""

from collections.abc import Sequence

import numpy as np

# Viridis, whose palest end is left out.
_STOPS = (
    "9bd93c 77d153 5ac864 3fbc73 2ab07f 20a486 1f978b 228b8d 277e8e "
    "2c718e 32648e 39568c 3f4788 453781 482677 481467 440154"
)
_RAMP = np.array([[int(stop[at : at + 2], 16) for at in (0, 2, 4)] for stop in _STOPS.split()])


def shades(places: Sequence[float] | np.ndarray) -> list[str]:
    """Give the colours of places between 0, the lightest, and 1, the darkest."""
    channels = [np.interp(places, np.linspace(0, 1, len(_RAMP)), channel) for channel in _RAMP.T]
    return ["#" + "".join(f"{round(value):02x}" for value in color) for color in zip(*channels, strict=True)]
