"""One token per byte, after a beginning-of-sequence token: nothing to train, nothing unknown."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

BEGIN = 256
VOCABULARY = 257


def byte_tokenizer(*, add_begin: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of 256 bytes and ``<s>`` (id 256), which it puts first unless told not to."""
    # ByteLevel writes each byte as one printable character; its alphabet in sorted order gives the ids.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: i for i, character in enumerate(alphabet)}, merges=[]))
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    if add_begin:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BEGIN)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")
