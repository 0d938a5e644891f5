"""What did the paper measure? One file an experiment: each orchestrates, none holds a formula.

Reading order: :mod:`._options` (what a survey is asked), :mod:`._prepare` and :mod:`._facts` (models, data, what a run
says about itself), :mod:`._measure` (one batch to rows of the tables), :mod:`._rows` (shards to a run),
:mod:`._over_prompts` (the same for any experiment), :mod:`._survey` (the survey),
:mod:`._checkpoints` (the same over a training) with :mod:`._checkpoint_list`, :mod:`._fetching` and
:mod:`._emergence`, :mod:`._sink_rows` and
:mod:`._attribute` (what writes the sink token's row), :mod:`._ablate` (without what writes it) with
:mod:`._conditions` and :mod:`._index_list`, :mod:`._clip` (with it clamped) with :mod:`._gammas`; both stand on
:mod:`._intervened` (one batch under an intervention) and :mod:`._sink_scan` (what the row is made of);
:mod:`._lens` (what every state predicts) with :mod:`._blocks`, :mod:`._train_tuned` (translators for it);
:mod:`._contrast` (prompts that sink most against those that sink least) with :mod:`._contrast_prompts`,
:mod:`._contrast_tables` and :mod:`._head_values`; :mod:`._features` (texts at every state, each measured once)
and :mod:`._probe` (what can be read out of them) with :mod:`._probe_data`;
:mod:`._mteb` (how good embeddings they are); :mod:`._mcq` (how often each chooses right) with
:mod:`._log_likelihoods`.
"""

from thalweg.experiments._ablate import ablate
from thalweg.experiments._attribute import attribute, attributed, writing_blocks_of
from thalweg.experiments._checkpoints import Checkpoints, checkpoints
from thalweg.experiments._clip import clip
from thalweg.experiments._contrast import contrast
from thalweg.experiments._emergence import write_emergence
from thalweg.experiments._facts import hardware, learned_facts, versions
from thalweg.experiments._features import TextFeatures, features
from thalweg.experiments._lens import lens
from thalweg.experiments._mcq import mcq
from thalweg.experiments._mteb import mteb
from thalweg.experiments._options import SurveyOptions
from thalweg.experiments._probe import probe
from thalweg.experiments._rows import aggregate, measure_rows
from thalweg.experiments._survey import survey
from thalweg.experiments._train_tuned import STEP_TOKENS, train_tuned, trained_lens

__all__ = [
    "STEP_TOKENS",
    "Checkpoints",
    "SurveyOptions",
    "TextFeatures",
    "ablate",
    "aggregate",
    "attribute",
    "attributed",
    "checkpoints",
    "clip",
    "contrast",
    "features",
    "hardware",
    "learned_facts",
    "lens",
    "mcq",
    "measure_rows",
    "mteb",
    "probe",
    "survey",
    "train_tuned",
    "trained_lens",
    "versions",
    "write_emergence",
    "writing_blocks_of",
]
