"""What does a run say, on one page that anyone can open?

``report.html`` answers first, in words and numbers, on cards; the chapters of every experiment follow, and the run's
facts and definitions. One file, no network, and no experiment known by name.

In reading order: ``_facts`` what was run · ``_page`` all of it, with ``page.html.j2``, ``page.css`` and ``page.js``.
"""

from thalweg.report._page import write_report

__all__ = ["write_report"]
