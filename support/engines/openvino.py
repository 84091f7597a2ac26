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
import time
from collections.abc import Callable, Generator, Sequence
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

READY = '{"ready": true}\n'  # the first line of `openvino_worker`
PROJECT = Path(__file__).parent.parent.parent
HEARTBEAT_S = 0.25
AT_ONCE = 16  # chats in one batch; more of them gain little
MOST_FAULTS = 3  # of the process, each soon after the one before, until the engine gives up
SOON_S = 600
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
    folder = tempfile.TemporaryDirectory()
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
    """One process that writes, any number of chats. Where it breaks off, another one begins, behind the page as the first did."""

    def __init__(
        self,
        model: Path,
        tokenizer: Any,
        choice: ModelChoice,
        context_tokens: int,
        folder: tempfile.TemporaryDirectory | None = None,
    ) -> None:
        """`folder`: one that holds `model` for this engine alone. Raises ModelUnavailable."""
        self._model, self._tokenizer, self._choice, self._folder = model, tokenizer, choice, folder
        self._context_tokens = context_tokens
        self._faults = 0
        self._problem = ""
        self._worker = self._new_worker()

    def stream(self, messages: Sequence[Message], params: GenerationParams, stop: threading.Event) -> Generator[str]:
        """See `support.engines.base.Engine`."""
        params = replace(params, max_new_tokens=min(params.max_new_tokens, self._context_tokens // 2))
        room = self._context_tokens - params.max_new_tokens
        ids = prompt.render_to_fit(messages, self._tokenizer, room, step=transformers.TRIM_STEP)
        while not self._worker.alive:
            if self._problem:
                raise ModelUnavailable(self._problem)
            if stop.wait(HEARTBEAT_S):
                return
            yield ""
        worker = self._worker
        number, tokens = worker.ask(ids, self._config(params))
        words = DecodeStream(skip_special_tokens=True)
        try:
            while not stop.is_set():
                try:
                    new = tokens.get(timeout=HEARTBEAT_S)
                except Empty:
                    yield ""
                    continue
                if new is None:
                    return
                if isinstance(new, BaseException):
                    raise GenerationFailed("The model broke off while writing; please try again.") from new
                for token in new:
                    yield words.step(self._tokenizer.backend_tokenizer, token) or ""
        finally:
            worker.stop(number)

    def describe(self) -> dict[str, Any]:
        """See `support.engines.base.Engine`."""
        status = "ready" if self._worker.alive else "unavailable" if self._problem else "loading"
        return {
            "status": status,
            **({"problem": self._problem} if status == "unavailable" else {}),
            "model": self._choice.model,
            "adapter": self._choice.adapter or None,
            "quantization": self._choice.quantization,
            "device": "cpu",
            "engine": "openvino",
            "demonstration": self._choice.embedded,
            "at_once": AT_ONCE,
        }

    def close(self) -> None:
        """End all replies and the process, for good."""
        self._problem = "This engine is closed."
        self._worker.close()
        self._remove_folder()

    def _new_worker(self) -> Worker:
        return Worker(self._model, self._broke_off, own_folder=self._folder is not None)

    def _broke_off(self, worker: Worker) -> None:
        """Begin another process; on the thread of the one that ended."""
        if self._problem:
            return
        if time.monotonic() - worker.began > SOON_S:
            self._faults = 0
        self._faults += 1
        log.error("OpenVINO broke off, %d of %d times before the engine gives up", self._faults, MOST_FAULTS)
        try:
            if self._faults == MOST_FAULTS:
                raise ModelUnavailable(
                    "OpenVINO broke off several times; restart the app, or set ENGINE to transformers."
                )
            self._worker = self._new_worker()
        except ModelUnavailable as error:
            self._remove_folder()
            self._problem = str(error)

    def _remove_folder(self) -> None:
        if self._folder:
            self._folder.cleanup()

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
        began: when, on `time.monotonic`'s clock.
    """

    def __init__(self, model: Path, broke_off: Callable[[Worker], None], *, own_folder: bool) -> None:
        """Waits until the model is there.

        Args:
            model: the GGUF file.
            broke_off: called with it once it has ended, on a thread of its own.
            own_folder: the folder of `model` goes with the app, also where that is killed.

        Raises:
            ModelUnavailable: OpenVINO cannot read it.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.engines.openvino_worker", str(model.resolve()), *["own"] * own_folder],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # it ends with its stdin, not by the Ctrl-C that is meant for the app
        )
        self.alive, self.began = True, time.monotonic()
        self._numbers = itertools.count()
        self._replies: dict[int, SimpleQueue[list[int] | BaseException | None]] = {}
        self._orders: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._broke_off = broke_off
        assert self._process.stdin and self._process.stdout
        self._asks, self._answers = self._process.stdin, self._process.stdout
        if self._answers.readline() != READY:
            self.close()
            raise ModelUnavailable(
                f"OpenVINO cannot read {model.name}; the log says why. Set ENGINE to transformers, or MODEL_ID to another GGUF "
                "file."
            )
        for run in (self._send, self._hand_over):
            threading.Thread(target=run, name="openvino", daemon=True).start()

    def ask(self, ids: list[int], config: dict[str, Any]) -> tuple[int, SimpleQueue[list[int] | BaseException | None]]:
        """A reply's number, and its tokens as they come; None after the last, or what went wrong."""
        tokens: SimpleQueue[list[int] | BaseException | None] = SimpleQueue()
        number = next(self._numbers)
        self._replies[number] = tokens
        self._orders.put({"ask": number, "ids": ids, "config": config})
        if not self.alive:  # it ended before it could know of this one
            tokens.put(EOFError("The process has ended."))
        return number, tokens

    def stop(self, number: int) -> None:
        """Write no more of a reply; nothing where it has ended."""
        if number in self._replies:
            self._orders.put({"stop": number})

    def close(self) -> None:
        """End the process."""
        self.alive = False
        self._process.kill()
        self._process.wait()

    @property
    def writing(self) -> int:
        """Replies that are being written."""
        return len(self._replies)

    def _send(self) -> None:
        """What is asked, in its order, on a thread that may wait for a process that is busy."""
        while (order := self._orders.get()) is not None:
            try:
                self._asks.write(json.dumps(order) + "\n")
                self._asks.flush()
            except (OSError, ValueError):  # it has ended; `_hand_over` sees it too
                return

    def _hand_over(self) -> None:
        """Give every chat what was written for it, until the process ends."""
        try:
            for line in self._answers:
                answer = json.loads(line)
                tokens = self._replies[answer["id"]]
                tokens.put(answer["tokens"])
                if answer["ended"]:
                    tokens.put(RuntimeError(answer["fault"]) if answer["fault"] else None)
                    del self._replies[answer["id"]]
        finally:
            self.close()
            self._orders.put(None)
            for tokens in list(self._replies.values()):
                tokens.put(EOFError("The process has ended."))
            self._replies.clear()
            self._broke_off(self)
