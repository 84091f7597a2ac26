"""Loading faults as one sentence that names the fix; the errors are the libraries' own classes."""

import errno

import httpx
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from support.engines.choice import Hardware, choose
from support.engines.problems import AdapterFault, explain
from support.settings import Settings

CHOICE = choose(Settings(adapter_id="me/adapter"), Hardware(cuda=True, capability=(8, 0)))
MISSING = "Repository Not Found. If you are trying to access a private or gated repo, make sure you are authenticated."
RESPONSE = httpx.Response(403, request=httpx.Request("GET", "https://hub.example"))


def wrapped(cause: Exception) -> OSError:
    """As transformers does it."""
    error = OSError("You are trying to access a gated repo" if isinstance(cause, GatedRepoError) else "cannot load")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "has_token", "names"),
    [
        (wrapped(GatedRepoError("gated", response=RESPONSE)), False, ["gated", "accept its licence", "HF_TOKEN"]),
        (wrapped(GatedRepoError("gated", response=RESPONSE)), True, ["gated", "ask for access"]),
        (wrapped(RepositoryNotFoundError(MISSING, response=RESPONSE)), False, ["not found", "MODEL_ID", "HF_TOKEN"]),
        (wrapped(LocalEntryNotFoundError("offline")), False, ["cannot be reached", "MODEL_ID"]),
        (MemoryError(), False, ["memory", "QUANTIZATION=nf4"]),
        (ImportError("needs bitsandbytes"), False, ["bitsandbytes", "QUANTIZATION=none"]),
        (wrapped(OSError(errno.ENOSPC, "No space left on device")), False, ["disk is full", "MODEL_ID"]),
        (ValueError("odd"), False, ["could not be loaded", "MODEL_ID"]),
    ],
)
def test_model_problem(error, has_token, names):
    sentence = explain(error, CHOICE, has_token=has_token)
    assert all(name in sentence for name in names), sentence
    assert sentence.count("\n") == 0 and sentence.endswith(".")


def test_adapter_problem_names_the_adapter():
    fault = AdapterFault("size mismatch")
    assert "me/adapter does not fit" in explain(fault, CHOICE, has_token=False)
    fault.__cause__ = RepositoryNotFoundError("no", response=RESPONSE)
    assert "me/adapter was not found" in explain(fault, CHOICE, has_token=False)
    assert "ADAPTER_ID" in explain(fault, CHOICE, has_token=False)
