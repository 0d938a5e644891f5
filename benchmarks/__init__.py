"""What does measuring cost, beside a plain forward pass and beside other ways to the same numbers?

``make bench`` (``python -m benchmarks``) runs the parts, one file each, with CPU time beside wall time; ``make
bench-peers`` (``python -m benchmarks.peers``) has other libraries do the same work. In reading order: :mod:`.measured`
(time, memory, tables), :mod:`.subjects` (models and prompts), the parts :mod:`.survey`, :mod:`.memory`,
:mod:`.monitor`, :mod:`.lens`, :mod:`.probe`, :mod:`.embeddings`, :mod:`.multiple_choice` and :mod:`.page`, and
:mod:`.peers`. What was measured for docs/benchmarks.md is kept in ``docs/benchmarks/``.
"""

PARTS = ("survey", "memory", "monitor", "lens", "probe", "embeddings", "multiple_choice", "page")
"""Of ``make bench``, in the order in which they run."""
