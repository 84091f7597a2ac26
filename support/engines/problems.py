"""What went wrong while a model loaded, as one sentence that names the fix.

transformers wraps the Hub's errors in OSError, so the whole chain of causes is searched.
"""

from __future__ import annotations

import errno

from huggingface_hub.errors import GatedRepoError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

from support.engines.base import ModelUnavailable
from support.engines.choice import DEFAULT_CUDA_MODEL, ModelChoice


def explain(error: BaseException, choice: ModelChoice, *, has_token: bool) -> str:
    """One sentence for the page and the log. Never holds a token."""
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, ModelUnavailable):
            return str(cause)
    # The adapter is named where the fault is the adapter's: `AdapterFault` marks that part of the loading.
    about_adapter = any(isinstance(cause, AdapterFault) for cause in chain)
    what, variable = (choice.adapter, "ADAPTER_ID") if about_adapter else (choice.model, "MODEL_ID")
    sentence = _hub_problem(chain, what, variable, has_token) or _resource_problem(chain, what)
    if sentence:
        return sentence
    if about_adapter:
        return (
            f"The adapter {what} does not fit the model {choice.model}; set MODEL_ID to the model it was trained on, "
            "or clear ADAPTER_ID."
        )
    return (
        f"The model {what} could not be loaded; check that {variable} names a causal language model with safetensors."
    )


class AdapterFault(Exception):
    """Raised around the adapter's part of the loading, so that the message can name it."""


def _hub_problem(chain: list[BaseException], what: str, variable: str, has_token: bool) -> str | None:
    text = " ".join(str(cause) for cause in chain).lower()
    if any(isinstance(cause, GatedRepoError) for cause in chain) or "access a gated repo" in text:
        fix = "ask for access on its Hub page with the account of your HF_TOKEN" if has_token else _token_fix(what)
        return f"The model {what} is gated; {fix}."
    if any(isinstance(cause, RepositoryNotFoundError) for cause in chain) or "is not a valid model identifier" in text:
        fix = "or that your HF_TOKEN may read it" if has_token else "and set HF_TOKEN if it is private"
        return f"{what} was not found on the Hub; check {variable}, {fix}."
    if any(isinstance(cause, HFValidationError) for cause in chain):
        held = "an adapter" if variable == "ADAPTER_ID" else "a model"
        return f"{what} is neither a folder with {held} nor a Hub id; check {variable}."
    if (
        any(isinstance(cause, (LocalEntryNotFoundError, ConnectionError)) for cause in chain)
        or "couldn't connect" in text
    ):
        fix = " and HF_TOKEN" if what == DEFAULT_CUDA_MODEL and not has_token else ""
        return (
            f"{what} is not on this machine and the Hub cannot be reached; "
            f"check the network{fix}, or set {variable} to a folder."
        )
    return None


def _token_fix(what: str) -> str:
    return f"accept its licence on the Hub page of {what}, then set the secret HF_TOKEN to a token that may read it"


def _resource_problem(chain: list[BaseException], what: str) -> str | None:
    names = {type(cause).__name__ for cause in chain}
    if "OutOfMemoryError" in names or "MemoryError" in names:
        return f"There is not enough memory for {what}; set QUANTIZATION=nf4, or choose a smaller MODEL_ID or larger hardware."
    if any(getattr(cause, "errno", None) == errno.ENOSPC for cause in chain):
        return f"The disk is full; make room for {what}, choose a larger disk, or a smaller MODEL_ID."
    if any(isinstance(cause, ImportError) and "bitsandbytes" in str(cause) for cause in chain):
        return "4-bit loading needs bitsandbytes; run `pip install -r requirements.txt`, or set QUANTIZATION=none."
    return None


def _causes(error: BaseException | None):
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
