"""Many chats at once on a machine of one's own, by transformers' continuous batching: one forward pass a token for all of
them, over one pool of KV cache in pages, with SDPA.

A turn does not read its history anew. Pages of a finished reply stay in the pool until their room is needed, and a prompt
that begins with the same tokens takes them over: the system prompt from any chat, a history from its own last turn.

The pool, in bytes: 2 (keys and values) x layers x KV heads x head size x bytes of a number, for every token. Llama 2 7B in
fp16: 2 x 32 x 32 x 128 x 2 = 0.5 MiB a token, so 2.0 GiB for one chat of 4,096 tokens. Its weights in NF4 take 3.6 GiB, an
adapter beside them 0.15, a pass over `PREFILL_TOKENS` about 0.15: 5.9 GiB for one chat of 4,096 tokens, 4.9 for one of 2,048,
and CUDA's own context on top. Every chat more takes its context more, and `_places` counts how many the free memory holds:
8 of 2,048 tokens on the 15 GiB of a T4.

Knows nothing about turns, templates or screening. It leans on parts of transformers that carry no promise, so `start`
compares its words with `generate`'s before anyone reads them, and gives None where they differ.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Generator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import psutil
import torch
from transformers import (
    ContinuousBatchingConfig,
    GenerationConfig,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor

from support.engines.base import GenerationParams
from support.engines.generating import HEARTBEAT_S, PieceStreamer, write

MOST_CHATS = 16  # at once; in a pass every chat's tokens are compared with all chats' caches, so more gain little
MEMORY_SHARE = 0.75  # of what is free once the model is loaded; the rest is for the passes themselves
PREFILL_TOKENS = 256  # read in one pass at most: so long do the others wait while a long prompt is read
PAGE_TOKENS = 32  # a history is found again up to its last whole page

log = logging.getLogger(__name__)
logging.getLogger("ContinuousBatchingLogger").setLevel(logging.WARNING)  # the manager tells of every step it takes


def start(model: Any, tokenizer: Any, context_tokens: int) -> Batch | None:
    """A batch that has shown that it writes what `generate` writes, and that it can keep from repeating itself; None, and a
    line in the log, where it does not, or cannot be made."""
    batch, problem = None, "its words differ from those of generate"
    # A row that repeats itself is continued with such certainty that a batch's other rounding changes no word.
    rows = [tokenizer(row)["input_ids"] for row in ("8 6 4 2 8 6 4 2 8 6 4 2 8 6 4 2 8", "3 1 4 1 5 9 3 1 4 1 5 9 3 1")]
    plain = GenerationParams(max_new_tokens=8, temperature=0, repetition_penalty=1.0, no_repeat_ngram_size=0)
    try:
        expected = ["".join(write(model, tokenizer, row, plain)) for row in rows]
        batch = Batch(model, tokenizer, context_tokens)
        asks = [*((row, plain) for row in rows), (rows[0], replace(plain, no_repeat_ngram_size=3))]
        pieces = itertools.zip_longest(*(batch.write(*ask) for ask in asks), fillvalue="")
        *texts, unrepeated = ("".join(text) for text in zip(*pieces, strict=True))
        if texts == expected and unrepeated not in texts:
            log.info("%d chats can be answered at once", batch.places)
            return batch
    except Exception as error:
        problem = f"{type(error).__name__}: {error.__cause__ or error}"
    log.warning("Chats take turns, because continuous batching is not to be had here: %s", problem)
    if batch:
        batch.close()
    return None


class Batch:
    """The chats that are being answered, and the thread that answers them.

    Attributes:
        places: chats at once; the next ones wait.
        alive: False for good after a fault or `close`. A fault breaks off every chat that is in it.
    """

    def __init__(self, model: Any, tokenizer: Any, context_tokens: int) -> None:
        """`context_tokens`: of one chat, prompt and reply together."""
        pages = -(-context_tokens // PAGE_TOKENS)
        self.places = _places(model, pages * PAGE_TOKENS)
        self.alive = True
        self._tokenizer = tokenizer
        self._manager = _manager(model, self.places, pages)
        # Every chat has room for a whole context. The manager would take in more and throw one out where the pages run
        # short; but it forgets those that it threw out if the chats that stayed are cancelled.
        self._free_places = threading.BoundedSemaphore(self.places)
        self._streamers: dict[str, PieceStreamer] = {}
        self._ids = map(str, itertools.count())
        threading.Thread(target=self._deliver, name="batching", daemon=True).start()

    def write(self, ids: list[int], params: GenerationParams) -> Generator[str]:
        """See `support.engines.generating.write`. While all places are taken, gives ""."""
        while not self._free_places.acquire(timeout=HEARTBEAT_S):
            yield ""
        request = next(self._ids)
        streamer = self._streamers[request] = PieceStreamer(self._tokenizer)
        try:
            self._manager.add_request(ids, request, params.max_new_tokens, streaming=True, params=params)
            if not self.alive:  # it ended before it could see this one
                streamer.fail(RuntimeError("The batch has ended."))
            yield from streamer
        finally:
            if self._streamers.pop(request, None):  # the reader left early
                self._manager.cancel_request(request)
            self._free_places.release()

    def close(self) -> None:
        """End all replies, and give the memory back."""
        self._manager.stop(hard_stop=True)

    def _deliver(self) -> None:
        """Hand every token to the chat that it belongs to, until the manager's thread ends."""
        try:
            with torch.inference_mode():
                self._manager.start()  # its thread is a daemon as this one is: the app can end while someone reads
            for output in self._manager:
                self._hand_on(output)
        finally:
            self.alive = False
            for streamer in list(self._streamers.values()):
                streamer.fail(RuntimeError("The batch has ended."))

    def _hand_on(self, output: Any) -> None:
        streamer = self._streamers.get(output.request_id)
        if streamer is None:  # cancelled
            return
        if output.error is None:
            streamer.put(torch.tensor(output.generated_tokens[-1:]))
        if output.is_finished():
            self._streamers.pop(output.request_id, None)
            streamer.end() if output.error is None else streamer.fail(RuntimeError(output.error))


def _places(model: Any, context_tokens: int) -> int:
    """How many chats of a whole context the free memory holds."""
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(model.device)
    else:
        free = psutil.virtual_memory().available
    chat_bytes = context_tokens * _token_bytes(model.config.get_text_config(), model.dtype)
    return max(1, min(MOST_CHATS, int(MEMORY_SHARE * free) // chat_bytes))


def _token_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes of one token's keys and values in all layers."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * head_size * dtype.itemsize


def _manager(model: Any, places: int, pages: int) -> Any:
    """transformers' manager, not yet started, with our sampling in the place of its own."""
    manager = model.init_continuous_batching(
        # Neutral values: the manager makes no processors of its own of them.
        GenerationConfig(
            do_sample=True, temperature=1.0, top_k=0, top_p=1.0, eos_token_id=model.generation_config.eos_token_id
        ),
        ContinuousBatchingConfig(
            page_size=PAGE_TOKENS,
            num_blocks=places * pages,
            max_batch_tokens=PREFILL_TOKENS,
            max_requests_per_batch=places,
            auto_switch_to_flash=False,  # it would fetch kernels from the Hub
        ),
    )
    sampling = manager.logit_processor
    sampling.logits_processor.append(_Sampling())
    sampling.tensors_required, sampling.do_processing = 1, True
    sampling._retrieve_processors_kwargs()
    return manager


class _Sampling(ContinuousBatchingLogitsProcessor):
    """Every chat's own parameters, applied by the processors that `generate` uses, over all its tokens.

    The manager's own know temperature, top_k and top_p, see one token of a chat, and draw for all or for none; repetition
    control it drops with a warning, and without it a small model loops.
    """

    supported_kwargs = {"params": GenerationParams}  # noqa: RUF012 (as in the base class)
    ignored_kwargs = ()

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        """Before the pass: the chats whose next token it gives. What they need is no row of numbers, so the tensor, which
        the manager demands, says nothing."""
        self._states = [request.state for request in requests_with_new_token]
        return torch.zeros(len(self._states), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """After the pass: `scores`, (chats, vocabulary), in the same order; rows beyond them belong to unread prompts."""
        for row, state in enumerate(self._states):
            params = state.logit_processor_kwargs["params"]
            ids = torch.tensor([state.initial_tokens + state.generated_tokens], device=scores.device)
            one = _processors(params)(ids, scores[row : row + 1])  # pyright: ignore[reportArgumentType]
            if params.temperature == 0:  # the manager draws: leave it one to draw
                one = torch.full_like(one, -torch.inf).scatter(1, one.argmax(-1, keepdim=True), 0.0)
            scores[row] = one[0]
        return scores


@lru_cache(maxsize=64)
def _processors(params: GenerationParams) -> LogitsProcessorList:
    """What `generate` makes of these parameters, in its order."""
    chosen: list[Any] = []
    if params.repetition_penalty != 1:
        chosen.append(RepetitionPenaltyLogitsProcessor(float(params.repetition_penalty)))
    if params.no_repeat_ngram_size:
        chosen.append(NoRepeatNGramLogitsProcessor(params.no_repeat_ngram_size))
    if params.temperature not in (0, 1):
        chosen.append(TemperatureLogitsWarper(float(params.temperature)))
    if params.temperature and params.top_p < 1:
        chosen.append(TopPLogitsWarper(params.top_p))
    return LogitsProcessorList(chosen)
