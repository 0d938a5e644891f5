"""What can go wrong with anyone's files or the hub, as one line that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from textwrap import shorten

import torch
from huggingface_hub import errors as hub
from safetensors import SafetensorError

from thalweg.errors import ModelError, ThalwegError


@contextmanager
def readable_errors(name: str, revision: str | None) -> Iterator[None]:
    """One line instead of a traceback for everything a person can mend."""
    try:
        yield
    except ThalwegError:
        raise
    except Exception as error:  # the files are anyone's, and so are the kinds of error they cause
        raise ModelError(_explanation(name, revision or "main", error)) from error


def _explanation(name: str, revision: str, error: BaseException) -> str:
    """What went wrong and what to do, from the kinds of error underneath and, failing that, their words."""
    chain, text = list(_causes(error)), str(error)

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    if among(hub.GatedRepoError) or "gated repo" in text:
        return f"{name} is gated: ask for access on its hub page, then run `hf auth login` or set HF_TOKEN."
    if among(hub.RevisionNotFoundError) or "not a valid git identifier" in text:
        return f"{name} has no revision {revision!r}. See its branches and tags on the hub."
    if among(hub.RepositoryNotFoundError) or "not a valid model identifier" in text:
        return f"{name} is neither a directory nor a model on the hub. Check the spelling; a private one needs a token."
    if "trust_remote_code" in text:
        return f"{name} comes with its own code, which is not run. Pass --trust-remote-code if you trust it."
    if "the backend tokenizer" in text:
        return f"{name} cannot be loaded: expected tokenizer.json, or its kin, beside config.json."
    if among(hub.HFValidationError):
        return f"{name!r} is neither a directory nor a hub id such as openai-community/gpt2."
    if among(MemoryError, torch.OutOfMemoryError):
        return f"{name} does not fit into memory. Pass --device-map auto, or another --dtype."
    if among(hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError, ConnectionError) or "connect" in text.lower():
        return (
            f"the hub cannot be reached and {name} ({revision}) is not in the local cache. Check the connection "
            "(HF_HUB_OFFLINE=1 forbids it), or give a local directory."
        )
    if "safetensors" in text and "does not appear to have a file" in text:
        return f"{name} has no safetensors weights. Pass --allow-pickle to read pickled ones if you trust them."
    if among(SafetensorError):
        return f"the weights of {name} are damaged ({text}). Fetch them again."
    if among(UnpicklingError):
        return f"the pickled weights of {name} hold more than tensors, or are damaged; they are not read."
    if "ignore_mismatched_sizes" in text:
        return f"{name} has weights of other shapes than its config.json says. Check that they belong together."
    return f"{name} cannot be loaded: {shorten(text, 300, placeholder=' ...') or type(error).__name__}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
