"""Which prompts does the model read, and which tokens are they?

Text from a file, from a data set on the hub or from the prompts bundled with thalweg becomes batches of tokens, and
every row that does not is counted with its reason. Reading order:

- ``_row``: one row of the data, usable or skipped
- ``_template``: which fields make a prompt, and how they are joined
- ``_local``, ``_lines``, ``_text_files``, ``_parquet``: the local formats; ``_texts``: a list in memory
- ``_hub_table``, ``_hub``, ``_hub_errors``: data sets with a short name, and any other on the hub
- ``_source``: from what a person typed to rows with a name and a hash
- ``_labelled``, with ``_questions`` and ``_labelled_table``: texts with a class each, and their splits
- ``_tokens``: the BOS policy, truncation, tokens
- ``_shards``: consecutive rows that are measured and written together; resuming and extending
- ``_token_blocks``: running text in blocks of tokens
- ``_batches``: prompts of similar length under a token budget
"""

from thalweg.prompts._batches import batches, padded
from thalweg.prompts._hub_table import HubData, list_data
from thalweg.prompts._labelled import (
    Example,
    Examples,
    LabelledData,
    open_labelled,
    split_in_three,
    splits_on_hub,
)
from thalweg.prompts._row import Row, Skipped
from thalweg.prompts._shards import Shard, Window, read_shards, require_prompts, windows
from thalweg.prompts._source import Source, open_source, source_of_texts
from thalweg.prompts._token_blocks import TokenBlocks, is_running_text, token_blocks
from thalweg.prompts._tokens import Bos, Prompt, Tokenization, Tokenized, tokenization, tokenize

__all__ = [
    "Bos",
    "Example",
    "Examples",
    "HubData",
    "LabelledData",
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
    "open_labelled",
    "open_source",
    "padded",
    "read_shards",
    "require_prompts",
    "source_of_texts",
    "split_in_three",
    "splits_on_hub",
    "token_blocks",
    "tokenization",
    "tokenize",
    "windows",
]
