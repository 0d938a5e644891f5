"""Write goldens.json anew: ``python tests/metrics/regenerate_goldens.py``; then look at what changed."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import torch

from thalweg import metrics

HERE = Path(__file__).parent


def main() -> None:
    spec = importlib.util.spec_from_file_location("builders", HERE / "conftest.py")
    builders = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builders)
    state = np.round(builders.build_state("two massive", 7, 5, 11), 6)
    maps = [builders.causal_softmax(2, 6, seed=5), builders.causal_softmax(2, 3, seed=6, sink_logit=0.5)]
    data = builders.statistics_of(maps)
    rounded = {name: v.round(decimals=6) if v.is_floating_point() else v for name, v in data.items()}
    goldens = {
        "state": metrics.measure_state(torch.tensor(state), variants=True).metrics,
        "predictions": builders.predictions(),
        "heads": {name: values.tolist() for name, values in metrics.head_metrics(**rounded).items()},
    }
    (HERE / "goldens.json").write_text(json.dumps(goldens, indent=1) + "\n")


if __name__ == "__main__":
    main()
