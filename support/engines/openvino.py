"""The OpenVINO engine: a GGUF model on a CPU, and all chats at once.

    pip install -r requirements-cpu.txt        ENGINE=auto then takes it where there is no CUDA card

A process of its own steps the model (`openvino_worker`), and every step writes the next token of each chat (continuous
batching). The beginning of a conversation that was read before is kept in memory and not read again (prefix cache), so a late
turn starts like an early one.

Knows nothing about screening: what it streams must pass the gate before anyone sees it.
"""

from __future__ import annotations

import itertools
import json
import logging
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from gguf import GGUFReader
from tokenizers.decoders import DecodeStream
from transformers import AutoTokenizer

from support import prompt
from support.engines import gguf_writer, transformers
from support.engines.base import GenerationFailed, GenerationParams, ModelUnavailable
from support.engines.choice import Hardware, ModelChoice, choose
from support.prompt import Message
from support.settings import Settings

PROJECT = Path(__file__).parent.parent.parent
HEARTBEAT_S = 0.25
AT_ONCE = 16  # chats in one batch; more of them gain little
MOST_FAULTS = 3  # of the process, before the engine gives up
EXACT = {"F32", "F16", "Q8_0", "Q4_0"}  # the rest OpenVINO rounds: minima of Q4_1 and Q4_K blocks to whole steps

_LOST = "OpenVINO broke off several times; restart the app, or set ENGINE to transformers."

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
    folder = tempfile.TemporaryDirectory()  # as long as the engine: a process that broke off is followed by another one
    path = Path(folder.name) / "model.gguf"
    gguf_writer.write(loaded.model, path)
    return OpenVinoEngine(path, loaded.tokenizer, replace(choice, quantization="fp16"), context, folder)


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
    return OpenVinoEngine(path, tokenizer, choice, min(settings.context_tokens, longest))


class OpenVinoEngine:
    """One process that writes, any number of chats."""

    def __init__(
        self, model: Path, tokenizer: Any, choice: ModelChoice, context_tokens: int, held: object = None
    ) -> None:
        """`held`: what must live as long as the engine. Raises ModelUnavailable."""
        self._model, self._tokenizer, self._choice, self._held = model, tokenizer, choice, held
        self._context_tokens = context_tokens
        self._restart = threading.Lock()
        self._restarts = 0
        self._worker = Worker(model)

    def stream(self, messages: Sequence[Message], params: GenerationParams, stop: threading.Event) -> Generator[str]:
        """See `support.engines.base.Engine`."""
        params = replace(params, max_new_tokens=min(params.max_new_tokens, self._context_tokens // 2))
        room = self._context_tokens - params.max_new_tokens
        ids = prompt.render_to_fit(messages, self._tokenizer, room, step=transformers.TRIM_STEP)
        worker = self._living_worker()
        number, tokens = worker.ask(ids, self._config(params))
        words = DecodeStream(skip_special_tokens=True)
        try:
            while not stop.is_set():
                try:
                    some = tokens.get(timeout=HEARTBEAT_S)
                except Empty:
                    yield ""
                    continue
                if some is None:
                    return
                if isinstance(some, BaseException):
                    raise GenerationFailed("The model broke off while writing; please try again.") from some
                for token in some:
                    yield words.step(self._tokenizer.backend_tokenizer, token) or ""
        finally:
            worker.stop(number)

    def describe(self) -> dict[str, Any]:
        """See `support.engines.base.Engine`."""
        lost = not self._worker.alive and self._restarts >= MOST_FAULTS
        return {
            **({"status": "unavailable", "problem": _LOST} if lost else {"status": "ready"}),
            "model": self._choice.model,
            "adapter": self._choice.adapter or None,
            "quantization": self._choice.quantization,
            "device": "cpu",
            "engine": "openvino",
            "demonstration": self._choice.embedded,
            "at_once": AT_ONCE,
        }

    def close(self) -> None:
        """End all replies and the process."""
        with self._restart:
            self._restarts = MOST_FAULTS
            self._worker.close()

    def _living_worker(self) -> Worker:
        """The process; after it broke off another one, a few times."""
        with self._restart:
            if not self._worker.alive:
                if self._restarts >= MOST_FAULTS:
                    raise ModelUnavailable(_LOST)
                self._restarts += 1
                log.error("OpenVINO broke off; process %d of %d begins", self._restarts, MOST_FAULTS)
                self._worker = Worker(self._model)
            return self._worker

    def _config(self, params: GenerationParams) -> dict[str, Any]:
        """OpenVINO's names for it."""
        config: dict[str, Any] = {
            "max_new_tokens": params.max_new_tokens,
            "stop_token_ids": [self._tokenizer.eos_token_id],
            "repetition_penalty": params.repetition_penalty,
        }
        if params.no_repeat_ngram_size:
            config["no_repeat_ngram_size"] = params.no_repeat_ngram_size
        if params.temperature > 0:
            sampling = {"temperature": params.temperature, "top_p": params.top_p}
            config |= {"do_sample": True, **sampling, "rng_seed": random.getrandbits(32)}
        return config


class Worker:
    """An `openvino_worker` process with a model, and the way of each reply's tokens to the chat that waits for them.

    Attributes:
        alive: False once it has ended, for good. Every reply in it gets the fault then.
    """

    def __init__(self, model: Path) -> None:
        """Waits until the model is there. Raises ModelUnavailable."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.engines.openvino_worker", str(model.resolve())],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # it ends with its stdin, not by the Ctrl-C that is meant for the app
        )
        self.alive = True
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._replies: dict[int, SimpleQueue[list[int] | BaseException | None]] = {}
        assert self._process.stdin and self._process.stdout
        self._asks, self._answers = self._process.stdin, self._process.stdout
        if not self._answers.readline():
            self.close()
            raise ModelUnavailable(
                f"OpenVINO cannot read {model.name}; the log says why. Set ENGINE to transformers, or MODEL_ID to another GGUF "
                "file."
            )
        threading.Thread(target=self._hand_over, name="openvino", daemon=True).start()

    def ask(self, ids: list[int], config: dict[str, Any]) -> tuple[int, SimpleQueue[list[int] | BaseException | None]]:
        """A reply's number, and its tokens as they come; None after the last, or what went wrong."""
        tokens: SimpleQueue[list[int] | BaseException | None] = SimpleQueue()
        with self._lock:
            number = next(self._numbers)
            self._replies[number] = tokens
        if not self._say({"ask": number, "ids": ids, "config": config}):
            tokens.put(EOFError("The process has ended."))
        return number, tokens

    def stop(self, number: int) -> None:
        """Write no more of a reply; nothing where it has ended."""
        if number in self._replies:
            self._say({"stop": number})

    def close(self) -> None:
        """End the process."""
        self.alive = False
        self._process.kill()
        self._process.wait()

    @property
    def writing(self) -> int:
        """Replies that are being written."""
        return len(self._replies)

    def _say(self, ask: dict[str, Any]) -> bool:
        with self._lock:
            try:
                self._asks.write(json.dumps(ask) + "\n")
                self._asks.flush()
            except (OSError, ValueError):  # it has ended; `_hand_over` sees it too
                return False
        return True

    def _hand_over(self) -> None:
        """Give every chat what was written for it, until the process ends."""
        for line in self._answers:
            answer = json.loads(line)
            tokens = self._replies[answer["id"]]
            tokens.put(answer["tokens"])
            if answer["ended"]:
                tokens.put(MemoryError(answer["fault"]) if answer["fault"] else None)
                del self._replies[answer["id"]]
        self.alive = False
        for tokens in list(self._replies.values()):
            tokens.put(EOFError("The process has ended."))
        self._replies.clear()
