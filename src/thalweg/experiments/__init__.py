"""What did the paper measure? One file an experiment: each orchestrates, none holds a formula.

Reading order: :mod:`._options` (what a survey is asked), :mod:`._measure` (one batch to rows of the tables),
:mod:`._facts` (what a run says about itself), :mod:`._survey` (the survey).
"""

from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._survey import survey

__all__ = ["SurveyOptions", "survey"]
