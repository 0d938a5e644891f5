"""A model's tokenizer is that of its files: what transformers makes of them is compared with tokenizer.json."""

from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from thalweg.errors import ModelError

PROBE = "The quick brown fox, isn't 3.14159 or 2,026\n  def f(x):\treturn x  # naïve Café, 你好 Привет! ABC abc\n\n"
"""What tokenizers take apart in different ways: spaces, lines, digits, case, accents, scripts."""


def own_tokenizer(
    name: str, tokenizer: PreTrainedTokenizerBase, source: str, asked: dict[str, Any]
) -> PreTrainedTokenizerBase:
    """The tokenizer as tokenizer.json has it: of some families, transformers builds another one from its words.

    Args:
        name: of the model, as asked for.
        tokenizer: what transformers made of the files.
        source: where they are, a directory or a hub id.
        asked: how they are asked for.

    Raises:
        ModelError: no tokenizer that transformers makes gives the ids of tokenizer.json.
    """
    of_another_kind = "gguf_file" in asked or type(tokenizer).__module__.startswith("transformers_modules.")
    quietly = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    here = {"revision": asked["revision"], "local_files_only": asked["local_files_only"], **quietly}
    file = None if of_another_kind else cached_file(source, "tokenizer.json", **here)
    if file is None:
        return tokenizer
    own = Tokenizer.from_file(file)
    own.no_truncation()
    own.no_padding()
    expected = own.encode(PROBE, add_special_tokens=False).ids
    for candidate in (lambda: tokenizer, lambda: PreTrainedTokenizerFast.from_pretrained(source, **asked)):
        made = candidate()
        if made(PROBE, add_special_tokens=False)["input_ids"] == expected:
            return made
    raise ModelError(
        f"{name} has a tokenizer.json that transformers reads as another tokenizer ({type(tokenizer).__name__}), with "
        "other tokens for the same text. Save it again with the transformers that it was made with."
    )
