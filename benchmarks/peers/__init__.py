"""The same numbers by other libraries, each in an environment of its own: ``python -m benchmarks.peers``.

:mod:`.ways` says how each comes to them, :mod:`.work` times one of them in its environment, :mod:`.environments` makes
the environments, and ``__main__`` runs all and compares.
"""
