"""What is inside this Hugging Face model, and what does it do on this prompt?

Reading order: :mod:`._load` (from a name to weights) with
:mod:`._identity`, :mod:`._refusals` and :mod:`._load_errors`, :mod:`._fetch` (weights brought near),
:mod:`._parts` and :mod:`._families` (where things are),
:mod:`._positions`, :mod:`._interface` (how an attention call reaches us), :mod:`._observe` (watch one forward pass),
:mod:`._states` (its states alone),
:mod:`._blocks` (what a block returns), :mod:`._projection` (what a head writes), :mod:`._subject` (all of it put
together), then the proofs: :mod:`._proof`, :mod:`._additive` with
:mod:`._sites`, :mod:`._unembedding` with :mod:`._head`; and on proved parts :mod:`._contributions` (watch what a block
adds).
"""

from thalweg.capture._additive import AdditiveParts, additive_parts
from thalweg.capture._blocks import rewrap, unwrap
from thalweg.capture._contributions import ContributionWatcher, Summand, contributions
from thalweg.capture._families import PROVED
from thalweg.capture._fetch import fetch_weights
from thalweg.capture._head import unembedding_of
from thalweg.capture._identity import identity_of_configuration, identity_of_tokenizer, weights_in_directory
from thalweg.capture._interface import attention_implementation
from thalweg.capture._load import IdentifiedModel, identify_model, load_model
from thalweg.capture._observe import AttentionPath, AttentionSeen, Subject, Watcher, observe
from thalweg.capture._positions import Positions, positions_of
from thalweg.capture._proof import Capability, Check, prove, require
from thalweg.capture._sites import Site, additive_sites
from thalweg.capture._states import watch_states
from thalweg.capture._subject import subject_of
from thalweg.capture._unembedding import Unembedding

__all__ = [
    "PROVED",
    "AdditiveParts",
    "AttentionPath",
    "AttentionSeen",
    "Capability",
    "Check",
    "ContributionWatcher",
    "IdentifiedModel",
    "Positions",
    "Site",
    "Subject",
    "Summand",
    "Unembedding",
    "Watcher",
    "additive_parts",
    "additive_sites",
    "attention_implementation",
    "contributions",
    "fetch_weights",
    "identify_model",
    "identity_of_configuration",
    "identity_of_tokenizer",
    "load_model",
    "observe",
    "positions_of",
    "prove",
    "require",
    "rewrap",
    "subject_of",
    "unembedding_of",
    "unwrap",
    "watch_states",
    "weights_in_directory",
]
