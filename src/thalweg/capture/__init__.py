"""What is inside this Hugging Face model, and what does it do on this prompt?

Reading order: :mod:`._named` (from a name to a model that is known), :mod:`._load` (its weights) and :mod:`._fetch`
(brought near) with :mod:`._hub`, :mod:`._adapter`, :mod:`._identity`, :mod:`._stored`, :mod:`._kept`, :mod:`._gguf`,
:mod:`._tokenizer` and :mod:`._failures`, :mod:`._parts` and :mod:`._families` (where things are, and what a block
returns), :mod:`._interface` (how an attention call reaches us), :mod:`._subject` (all of it put together, and what a
head writes), :mod:`._observe` (watch one forward pass, or its states alone) and :mod:`._places` (what a pass leaves
reaches the processor), then the proofs: :mod:`._solved` (a block's summands, the scale of the logits) and
:mod:`._proof`; and on proved parts :mod:`._proved` (the way to logits, and watching what a block adds). For a model
that is in memory already: :mod:`._given` and :mod:`._untouched`; for one that several processes share: :mod:`._shared`.
"""

from thalweg.capture._families import PROVED
from thalweg.capture._fetch import fetch_weights
from thalweg.capture._given import given_name, identify_given
from thalweg.capture._identity import (
    identity_of_configuration,
    identity_of_model,
    identity_of_tokenizer,
    weights_in_directory,
)
from thalweg.capture._interface import attention_implementation
from thalweg.capture._load import load_model
from thalweg.capture._named import IdentifiedModel, identify_model, weights_of
from thalweg.capture._observe import AttentionSeen, Watcher, observe, watch_states
from thalweg.capture._parts import Positions, positions_of, rewrap, unwrap
from thalweg.capture._places import brought, precise
from thalweg.capture._proof import Capability, Check, prove, proved_states, require
from thalweg.capture._proved import (
    SUMMANDS,
    Chosen,
    ContributionWatcher,
    RowsAt,
    Site,
    Summand,
    additive_sites,
    contributions,
    unembedding_of,
    watch_middles,
)
from thalweg.capture._solved import HALF, AdditiveParts, Unembedding, additive_parts
from thalweg.capture._subject import AttentionPath, Subject, plain_subject, subject_of
from thalweg.capture._untouched import plain_model, untouched

__all__ = [
    "HALF",
    "PROVED",
    "SUMMANDS",
    "AdditiveParts",
    "AttentionPath",
    "AttentionSeen",
    "Capability",
    "Check",
    "Chosen",
    "ContributionWatcher",
    "IdentifiedModel",
    "Positions",
    "RowsAt",
    "Site",
    "Subject",
    "Summand",
    "Unembedding",
    "Watcher",
    "additive_parts",
    "additive_sites",
    "attention_implementation",
    "brought",
    "contributions",
    "fetch_weights",
    "given_name",
    "identify_given",
    "identify_model",
    "identity_of_configuration",
    "identity_of_model",
    "identity_of_tokenizer",
    "load_model",
    "observe",
    "plain_model",
    "plain_subject",
    "positions_of",
    "precise",
    "prove",
    "proved_states",
    "require",
    "rewrap",
    "subject_of",
    "unembedding_of",
    "untouched",
    "unwrap",
    "watch_middles",
    "watch_states",
    "weights_in_directory",
    "weights_of",
]
