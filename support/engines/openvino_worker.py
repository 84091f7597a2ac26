"""The process in which OpenVINO writes: all chats at once, a token for each in every step.

    python -m support.engines.openvino_worker MODEL.gguf        asked on its stdin, answers on its stdout

A process of its own, because a step holds Python's lock for as long as it takes, in which neither the gate nor a crisis reply
could do anything; and because whatever OpenVINO does to it, the app with its help goes on. It gives way to the app where the
processor is short.

A line of JSON each. In: `{"ask": id, "ids": token ids, "config": GenerationConfig's fields}`, `{"stop": id}`. Out: first
`{"ready": true}`; then `{"id": id, "tokens": new ones, "ended": whether these were the last, "fault": text or null}`. It ends
with its stdin, and with a traceback where OpenVINO breaks off: no chat could go on then.
"""

from __future__ import annotations

import json
import os
import sys
import threading
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
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not stand between the answers
    os.nice(YIELDING)
    pipeline = _pipeline(sys.argv[1])
    _say(answers, {"ready": True})
    asked: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    _write(pipeline, asked, answers)


def _pipeline(path: str) -> Any:
    scheduler = SchedulerConfig()
    scheduler.cache_size = CACHE_GB
    scheduler.enable_prefix_caching = True
    scheduler.max_num_batched_tokens = READ_TOKENS
    return ContinuousBatchingPipeline(path, scheduler, "CPU")


def _listen(asked: SimpleQueue[dict[str, Any] | None]) -> None:
    for line in sys.stdin:
        asked.put(json.loads(line))
    asked.put(None)


def _write(pipeline: Any, asked: SimpleQueue[dict[str, Any] | None], answers: TextIO) -> None:
    replies: dict[int, Any] = {}  # id -> OpenVINO's handle
    while True:
        try:
            while (ask := asked.get(block=not replies)) is not None:
                _take(pipeline, ask, replies)
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


def _take(pipeline: Any, ask: dict[str, Any], replies: dict[int, Any]) -> None:
    if "ask" in ask:
        config = GenerationConfig(**{**ask["config"], "stop_token_ids": {*ask["config"]["stop_token_ids"]}})
        replies[ask["ask"]] = pipeline.add_request(ask["ask"], Tensor(numpy.array([ask["ids"]])), config)
    elif ask["stop"] in replies:
        replies[ask["stop"]].stop()  # keeps what was read, for the next turn


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
