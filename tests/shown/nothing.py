"""The view of an experiment of which no run holds anything."""


def chapters(_run):
    return iter(())
