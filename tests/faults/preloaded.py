"""What a process needs that runs experiments: imported once, by the server that is forked."""

import importlib
import pkgutil

import lm_eval.tasks
import mteb
import transformers.models.llama.modeling_llama
from tests.faults import performed

import thalweg.experiments

for _module in pkgutil.walk_packages(thalweg.experiments.__path__, "thalweg.experiments."):
    importlib.import_module(_module.name)

__all__ = ["lm_eval", "mteb", "performed", "transformers"]
