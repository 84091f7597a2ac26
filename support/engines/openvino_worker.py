"""The process in which OpenVINO writes: all chats at once, a token for each in every step.

    python -m support.engines.openvino_worker MODEL.gguf [own]     asked on its stdin, answers on its stdout
    "own": the folder of the model is there for this alone, and goes with the app

A process of its own, because a step holds Python's lock for as long as it takes, in which neither the gate nor a crisis reply
could do anything; and because whatever OpenVINO does to it, the app with its help goes on. It gives way to the app where the
processor is short.

A line of JSON each. In: `{"ask": id, "ids": token ids, "config": GenerationConfig's fields}`, `{"stop": id}`. Out: first
`{"ready": true}`; then `{"id": id, "tokens": new ones, "ended": whether these were the last, "fault": text or null}`. It ends
with its stdin, and with a traceback where OpenVINO breaks off while it writes: no chat could go on then.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TextIO

import numpy

# `import openvino` reports itself to Google Analytics, unless it does not find its package for that.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
from openvino import Tensor  # noqa: E402
from openvino_genai import ContinuousBatchingPipeline, GenerationConfig, GenerationStatus, SchedulerConfig  # noqa: E402

CACHE_GB = 2  # of conversations kept: 90,000 tokens of the embedded model, 4,000 of Llama 2 7B. Taken as they come
READ_TOKENS = 512  # of a prompt at a time: a chat that stops, or writes meanwhile, waits no longer than this takes
YIELDING = 10  # on the scale of `nice`


def main() -> None:
    try:
        answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        os.dup2(2, 1)  # what a library prints must not stand between the answers
        if hasattr(os, "nice"):  # not on Windows
            os.nice(YIELDING)
        path, *own = sys.argv[1:]
        pipeline = _pipeline(path)
        with suppress(BrokenPipeError):  # the app may end while the model loads
            _say(answers, {"ready": True})
            orders: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
            threading.Thread(target=_listen, args=(orders,), daemon=True).start()
            _write(pipeline, orders, answers)
        if own:
            shutil.rmtree(Path(path).parent, ignore_errors=True)
    except BaseException:
        traceback.print_exc()
    os._exit(0)  # at once: a thread may still read


def _pipeline(path: str) -> Any:
    scheduler = SchedulerConfig()
    scheduler.cache_size = CACHE_GB
    scheduler.enable_prefix_caching = True
    scheduler.max_num_batched_tokens = READ_TOKENS
    return ContinuousBatchingPipeline(path, scheduler, "CPU")


def _listen(orders: SimpleQueue[dict[str, Any] | None]) -> None:
    try:
        # In large pieces: each is a wait for Python's lock, which a step holds.
        for line in os.fdopen(os.dup(0), "rb", buffering=2**20):
            orders.put(json.loads(line))
    finally:
        orders.put(None)


def _write(pipeline: Any, orders: SimpleQueue[dict[str, Any] | None], answers: TextIO) -> None:
    replies: dict[int, Any] = {}  # id -> OpenVINO's handle
    while True:
        try:
            while (order := orders.get(block=not replies)) is not None:
                _follow(order, pipeline, replies, answers)
        except Empty:
            pass
        else:
            return
        pipeline.step()  # one token for every chat, or a part of a prompt
        for number, handle in list(replies.items()):
            answer = _news(handle)
            if answer["tokens"] or answer["ended"]:
                _say(answers, {"id": number, **answer})
            if answer["ended"]:
                del replies[number]


def _follow(order: dict[str, Any], pipeline: Any, replies: dict[int, Any], answers: TextIO) -> None:
    if "stop" in order:
        if order["stop"] in replies:
            replies[order["stop"]].stop()  # keeps what was read, for the next turn
        return
    number = order["ask"]
    try:
        config = GenerationConfig(**{**order["config"], "stop_token_ids": {*order["config"]["stop_token_ids"]}})
        replies[number] = pipeline.add_request(number, Tensor(numpy.array([order["ids"]])), config)
    except Exception as error:  # a value that OpenVINO does not take is one chat's fault, not all chats'
        _say(answers, {"id": number, "tokens": [], "ended": True, "fault": f"{type(error).__name__}: {error}"})


def _news(handle: Any) -> dict[str, Any]:
    """What was written since it was asked last. The status comes first: tokens may come after it, but none after the end."""
    status = handle.get_status()
    tokens: list[int] = []
    while handle.can_read():
        for output in handle.read().values():
            tokens += output.generated_ids
    fault = "The conversation does not fit into the cache." if status == GenerationStatus.IGNORED else None
    return {"tokens": tokens, "ended": status != GenerationStatus.RUNNING, "fault": fault}


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
