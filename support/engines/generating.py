"""One reply at a time, by transformers' `generate`: a call of its own for every reply, the whole prompt read anew.

The way on ZeroGPU, where every call brings its own worker, and elsewhere where batching cannot be had. Knows nothing
about turns: whoever calls `write` for two chats at once makes both slow.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Generator
from typing import Any

import spaces  # before anything touches CUDA; off ZeroGPU its decorator returns the function as it is
import torch
from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from support.engines.base import GenerationFailed, GenerationParams

HEARTBEAT_S = 0.25
BROKE_OFF = "The model broke off while writing; please try again."
# What ZeroGPU says in its errors' titles and messages (spaces/zero/client.py), and what that means to a person.
NO_CARD = {
    "No GPU was available": "No graphics card is free at this moment; please try again in a minute.",
    "exceeded": (
        "The time that ZeroGPU gives for replies is used up for now; please try again later, or sign in to Hugging Face, "
        "which gives more."
    ),
    "illegal duration": (
        "This reply would take longer than ZeroGPU allows; choose a shorter longest reply, or set MAX_NEW_TOKENS lower."
    ),
    "GPU task aborted": "ZeroGPU took the graphics card back while the reply was written; please try again.",
}

log = logging.getLogger(__name__)

_shared: tuple[Any, Any] | None = None  # model and tokenizer for ZeroGPU


def share(model: Any, tokenizer: Any) -> None:
    """Leave the model where ZeroGPU finds it: it pickles a call's arguments, and its worker is a fork."""
    global _shared
    _shared = model, tokenizer


def gpu_seconds(ids: list[int], params: GenerationParams) -> int:
    """Upper bound asked of ZeroGPU for one reply: start, prefill and 15 tokens/s. Shorter asks get better priority."""
    return min(120, 8 + len(ids) // 500 + params.max_new_tokens // 15)


def write_on_zero_gpu(ids: list[int], params: GenerationParams) -> Generator[str]:
    """`write` with the shared model, on a card that is there for this call only.

    Raises:
        GenerationFailed: ZeroGPU gives no card, or takes it back; or the model broke off.
    """
    try:
        yield from _write_on_zero_gpu(ids, params)
    except Exception as error:  # spaces raises gradio.Error, RuntimeError and its transport's errors
        said = f"{getattr(error, 'title', '')}: {error}"
        log.warning("ZeroGPU failed: %s %s", type(error).__name__, said)
        problem = next((problem for words, problem in NO_CARD.items() if words in said), BROKE_OFF)
        raise GenerationFailed(problem) from error


@spaces.GPU(duration=gpu_seconds)
def _write_on_zero_gpu(ids: list[int], params: GenerationParams) -> Generator[str]:
    assert _shared is not None
    yield from write(*_shared, ids, params)


def write(model: Any, tokenizer: Any, ids: list[int], params: GenerationParams) -> Generator[str]:
    """Text of one reply, a piece per token ("" while a word is incomplete) and "" every quarter of a second without one.
    Closing the iterator ends the generation.

    Raises:
        GenerationFailed: the model broke off.
    """
    ended = threading.Event()
    streamer = PieceStreamer(tokenizer, skip_prompt=True)

    def run() -> None:
        try:
            _generate(model, tokenizer, streamer, ids, params, ended)
        except BaseException as fault:  # carried to the reader
            streamer.fail(fault)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield from streamer
    finally:
        ended.set()
        thread.join()


class PieceStreamer(TextIteratorStreamer):
    """Tokens go in on the thread that generates, pieces of text come out on the reader's: one piece for every token (""
    while a word is incomplete), then one for the rest; "" as well for a quarter of a second in which no token came.

    Raises:
        GenerationFailed: to the reader, once `fail` was called.
    """

    def __init__(self, tokenizer: Any, *, skip_prompt: bool = False) -> None:
        super().__init__(tokenizer, skip_prompt=skip_prompt, timeout=HEARTBEAT_S, skip_special_tokens=True)
        self._fault: BaseException | None = None

    def fail(self, fault: BaseException) -> None:
        """End, and give the reader the fault."""
        self._fault = fault
        self.end()

    def __next__(self) -> str:
        try:
            return super().__next__()
        except queue.Empty:
            return ""
        except StopIteration:
            if self._fault is None:
                raise
            raise GenerationFailed(BROKE_OFF) from self._fault


def _generate(
    model: Any, tokenizer: Any, streamer: Any, ids: list[int], params: GenerationParams, ended: threading.Event
) -> None:
    inputs = torch.tensor([ids], device=model.device)
    sampling = {"do_sample": True, "temperature": params.temperature, "top_p": params.top_p, "top_k": 0}
    with torch.inference_mode():
        model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            streamer=streamer,
            max_new_tokens=params.max_new_tokens,
            repetition_penalty=params.repetition_penalty,
            no_repeat_ngram_size=params.no_repeat_ngram_size,
            stopping_criteria=StoppingCriteriaList([_Ended(ended)]),
            pad_token_id=_pad_token_id(tokenizer),
            **(sampling if params.temperature > 0 else {"do_sample": False, "temperature": None, "top_p": None}),
        )


def _pad_token_id(tokenizer: Any) -> int | None:
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


class _Ended(StoppingCriteria):
    def __init__(self, ended: threading.Event) -> None:
        self._ended = ended

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._ended.is_set(), device=input_ids.device, dtype=torch.bool)
