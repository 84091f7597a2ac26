"""The OpenVINO engine: a GGUF model on a CPU, and all chats at once.

    pip install -r requirements-cpu.txt        ENGINE=auto then takes it where there is no CUDA card

One thread steps the model, and every step writes the next token of each chat (continuous batching). The beginning of a
conversation that was read before is kept in memory and not read again (prefix cache), so a late turn starts like an early one.

Knows nothing about screening: what it streams must pass the gate before anyone sees it.
"""

from __future__ import annotations

import logging
import random
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy
from gguf import GGUFReader
from tokenizers.decoders import DecodeStream
from transformers import AutoTokenizer

from support import prompt
from support.engines import gguf_writer, transformers
from support.engines.base import GenerationFailed, GenerationParams, ModelUnavailable
from support.engines.choice import Hardware, ModelChoice, choose
from support.prompt import Message
from support.settings import Settings

# `import openvino` reports itself to Google Analytics, unless it does not find its package for that.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
from openvino import Tensor  # noqa: E402
from openvino_genai import ContinuousBatchingPipeline, GenerationConfig, GenerationStatus, SchedulerConfig  # noqa: E402

HEARTBEAT_S = 0.25
CACHE_GB = 2  # of conversations kept: 90,000 tokens of the embedded model, 4,000 of Llama 2 7B. Taken as they come
AT_ONCE = 16  # chats in one batch; more of them gain little
READ_TOKENS = 512  # of a prompt at a time: a chat that stops, or writes meanwhile, waits no longer than this takes
EXACT = {"F32", "F16", "Q8_0", "Q4_0"}  # the rest OpenVINO rounds: minima of Q4_1 and Q4_K blocks to whole steps

log = logging.getLogger(__name__)


def load(settings: Settings) -> OpenVinoEngine:
    """The GGUF file that MODEL_ID names, or the embedded model or another Llama, with its adapter merged in.

    Raises:
        ModelUnavailable: one sentence that names the fix.
    """
    cpu = replace(Hardware.detect(), cuda=False, zero_gpu=False)
    choice = choose(settings, cpu)
    if choice.model.endswith(".gguf"):
        return _load_file(settings, choice)
    # In fp32, so that a merged adapter is not rounded before it is written in 16 bits.
    loaded = transformers.load(replace(settings, quantization="none"), cpu)
    context = min(settings.context_tokens, loaded.model.config.max_position_embeddings)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        gguf_writer.write(loaded.model, path)
        return OpenVinoEngine(_pipeline(path), loaded.tokenizer, replace(choice, quantization="fp16"), context)


def _load_file(settings: Settings, choice: ModelChoice) -> OpenVinoEngine:
    path = Path(choice.model).expanduser()
    if not path.is_file():
        raise ModelUnavailable(f"There is no file {path}; check MODEL_ID.")
    if choice.adapter:
        raise ModelUnavailable(
            f"No adapter can be loaded over a GGUF file; merge {choice.adapter} into it, or clear ADAPTER_ID."
        )
    reader = GGUFReader(path)
    if rounded := {tensor.tensor_type.name for tensor in reader.tensors} - EXACT:
        raise ModelUnavailable(
            f"{path.name} holds weights in {', '.join(sorted(rounded))}, which OpenVINO would round; "
            "set MODEL_ID to a file in Q8_0, Q4_0 or F16."
        )
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    if not tokenizer.chat_template:
        raise ModelUnavailable(f"{path.name} has no chat template; set MODEL_ID to an instruct or chat model.")
    longest = reader.fields[f"{reader.fields['general.architecture'].contents()}.context_length"].contents()
    choice = replace(choice, quantization="gguf")
    return OpenVinoEngine(_pipeline(path), tokenizer, choice, min(settings.context_tokens, longest))


def _pipeline(path: Path) -> Any:
    scheduler = SchedulerConfig()
    scheduler.cache_size = CACHE_GB
    scheduler.enable_prefix_caching = True
    scheduler.max_num_batched_tokens = READ_TOKENS
    try:
        return ContinuousBatchingPipeline(str(path), scheduler, "CPU")
    except Exception as error:  # also IndexError, for an entry that the file lacks
        raise ModelUnavailable(
            f"OpenVINO cannot read {path.name}; set ENGINE to transformers, or MODEL_ID to another GGUF file."
        ) from error


@dataclass
class _Reply:
    """One reply that is being written: OpenVINO's handle, and the way of its tokens to the chat that waits for them."""

    handle: Any
    tokens: SimpleQueue[list[int] | BaseException | None]  # None: it has ended


class OpenVinoEngine:
    """One pipeline, one thread that steps it, any number of chats."""

    def __init__(self, pipeline: Any, tokenizer: Any, choice: ModelChoice, context_tokens: int) -> None:
        self._pipeline, self._tokenizer, self._choice = pipeline, tokenizer, choice
        self._context_tokens = context_tokens
        self._asked = threading.Condition()
        self._count = 0
        self._replies: list[_Reply] = []
        threading.Thread(target=self._write, name="openvino", daemon=True).start()

    def stream(self, messages: Sequence[Message], params: GenerationParams, stop: threading.Event) -> Generator[str]:
        """See `support.engines.base.Engine`."""
        params = replace(params, max_new_tokens=min(params.max_new_tokens, self._context_tokens // 2))
        room = self._context_tokens - params.max_new_tokens

        def fits(candidate: list[Message]) -> bool:
            return len(prompt.render(candidate, self._tokenizer)) <= room

        reply = self._ask(
            prompt.render(prompt.trim(messages, fits, step=transformers.TRIM_STEP), self._tokenizer), params
        )
        words = DecodeStream(skip_special_tokens=True)
        try:
            while not stop.is_set():
                try:
                    tokens = reply.tokens.get(timeout=HEARTBEAT_S)
                except Empty:
                    yield ""
                    continue
                if tokens is None:
                    return
                if isinstance(tokens, BaseException):
                    raise GenerationFailed("The model broke off while writing; please try again.") from tokens
                for token in tokens:
                    yield words.step(self._tokenizer.backend_tokenizer, token) or ""
        finally:
            reply.handle.stop()  # keeps what was read, for the next turn

    def describe(self) -> dict[str, Any]:
        """See `support.engines.base.Engine`."""
        return {
            "status": "ready",
            "model": self._choice.model,
            "adapter": self._choice.adapter or None,
            "quantization": self._choice.quantization,
            "device": "cpu",
            "engine": "openvino",
            "demonstration": self._choice.embedded,
            "at_once": AT_ONCE,
        }

    def _ask(self, ids: list[int], params: GenerationParams) -> _Reply:
        config = GenerationConfig(
            max_new_tokens=params.max_new_tokens,
            stop_token_ids={self._tokenizer.eos_token_id},
            repetition_penalty=params.repetition_penalty,
        )
        if params.no_repeat_ngram_size:
            config.no_repeat_ngram_size = params.no_repeat_ngram_size
        if params.temperature > 0:
            config.do_sample = True
            config.temperature, config.top_p = params.temperature, params.top_p
            config.rng_seed = random.getrandbits(32)
        with self._asked:
            self._count += 1
            reply = _Reply(self._pipeline.add_request(self._count, Tensor(numpy.array([ids])), config), SimpleQueue())
            self._replies.append(reply)
            self._asked.notify()
        return reply

    def _write(self) -> None:
        while True:
            with self._asked:
                self._asked.wait_for(lambda: self._replies)
            fault = self._step()
            with self._asked:
                self._replies = [reply for reply in self._replies if _hand_over(reply, fault)]

    def _step(self) -> BaseException | None:
        """One token for every chat, or a part of a prompt."""
        try:
            self._pipeline.step()
        except Exception as error:
            log.error("OpenVINO broke off: %s", type(error).__name__)
            return error
        return None


def _hand_over(reply: _Reply, fault: BaseException | None) -> bool:
    """Give what was written to the chat that waits for it; says whether more will come."""
    status = reply.handle.get_status()
    while reply.handle.can_read():
        for output in reply.handle.read().values():
            reply.tokens.put(output.generated_ids)
    if status == GenerationStatus.IGNORED:
        fault = MemoryError("The conversation does not fit into the cache.")
    if fault or status != GenerationStatus.RUNNING:
        reply.tokens.put(fault)
        return False
    return True
