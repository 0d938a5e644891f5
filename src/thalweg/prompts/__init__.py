"""Which prompts does the model read, and which tokens are they?

Text from a file, from a data set on the hub or from the prompts bundled with thalweg becomes batches of tokens, and
every row that does not is counted with its reason. Reading order:

- ``_rows``: one row of the data, usable or skipped; which fields make a prompt, and how they are joined
- ``_files``: the local formats
- ``_memory``: texts and tables in memory
- ``_data_sets``, ``_hub``: data sets with a short name, and any other on the hub
- ``_source``: from what a person typed to rows with a name and a hash
- ``_labelled``, with ``_questions``: texts with a class each, and their splits
- ``_tokens``, with ``_heads``: the BOS policy, truncation, tokens; batches of prompts of similar length under a token
  budget
- ``_shards``: consecutive rows, or blocks of running text, that are measured and written together
"""

from thalweg.prompts._data_sets import HubData, LabelledHubData, list_data, list_labelled_data
from thalweg.prompts._hub import uncounted
from thalweg.prompts._labelled import Example, Examples, LabelledData, open_labelled, split_in_three, splits_on_hub
from thalweg.prompts._rows import Row, Skipped
from thalweg.prompts._shards import (
    Shard,
    TokenBlocks,
    Window,
    is_running_text,
    read_shards,
    require_prompts,
    rows_left,
    token_blocks,
    windows,
)
from thalweg.prompts._source import Source, open_source
from thalweg.prompts._tokens import Bos, Prompt, Tokenization, Tokenized, batches, padded, tokenization, tokenize

__all__ = [
    "Bos",
    "Example",
    "Examples",
    "HubData",
    "LabelledData",
    "LabelledHubData",
    "Prompt",
    "Row",
    "Shard",
    "Skipped",
    "Source",
    "TokenBlocks",
    "Tokenization",
    "Tokenized",
    "Window",
    "batches",
    "is_running_text",
    "list_data",
    "list_labelled_data",
    "open_labelled",
    "open_source",
    "padded",
    "read_shards",
    "require_prompts",
    "rows_left",
    "split_in_three",
    "splits_on_hub",
    "token_blocks",
    "tokenization",
    "tokenize",
    "uncounted",
    "windows",
]
