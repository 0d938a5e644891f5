"""What happens to a model if one thing in it is changed?

```python
with intervene(subject, Remove("mlp", blocks=(1,), positions=(0,))):
    model.generate(...)
```

In reading order: ``_edits`` what can be changed · ``_intervene`` doing it on the rows that a forward pass holds, and
undoing it.
"""

from thalweg.interventions._edits import Clamp, Intervention, Positions, Remove, Replace, Rescale
from thalweg.interventions._intervene import intervene

__all__ = ["Clamp", "Intervention", "Positions", "Remove", "Replace", "Rescale", "intervene"]
