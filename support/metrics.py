"""Metrics without text: how many replies of which kind, how fast, for how many at a time. Off unless METRICS=on.

    metrics = Metrics(settings.metrics == "on")
    places = Places(metrics.timed(engine))
    metrics.watch(places)
    for reply in metrics.counted(respond(...)): ...

Numbers go to /metrics as Prometheus text and, summed, to /health. They hold ids of this project's own (source, level, category,
problem) and nothing of a person: no text, no visitor, no country.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import psutil
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from support.conversation import Reply
from support.engines import Engine, GenerationParams, Places
from support.prompt import Message

SECONDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
PIECES_A_SECOND = (1, 2, 5, 10, 20, 40, 80, 160)

disable_created_metrics()  # when something first happened is nobody's business


def memory_bytes() -> int:
    """Resident memory of this process and of those that it began."""
    total, process = 0, psutil.Process()
    for part in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # one that ended meanwhile
            total += part.memory_info().rss
    return total


class Metrics:
    """The numbers of one running app. Where they are off, nothing is counted and `/metrics` says so."""

    def __init__(self, on: bool) -> None:
        self.on = on
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)  # of this process: memory, processor time; on Linux

        def made(kind: Any, name: str, about: str, labels: Sequence[str] = (), **options: Any) -> Any:
            return kind(f"support_{name}", about, labels, registry=self._registry, **options)

        self._replies = made(Counter, "replies", "Replies that came to their end.", ("source", "level", "category"))
        self._withheld = made(Counter, "withheld", "Replies that the gate withheld, by what it found.", ("problem",))
        self._faults = made(Counter, "faults", "Replies in place of a fault, by where it lay.", ("part",))
        self._stopped = made(Counter, "stopped", "Replies that were stopped before their end.")
        self._rated = made(Counter, "rated", "Replies that a person rated.", ("rating",))
        self._first = made(
            Histogram, "first_sentence_seconds", "From message to the model's first sentence.", buckets=SECONDS
        )
        self._seconds = made(
            Histogram, "reply_seconds", "From message to the end of the reply.", ("source",), buckets=SECONDS
        )
        self._pieces = made(Counter, "pieces", "Pieces of text that the engine wrote, about one a token.")
        self._speed = made(
            Histogram, "pieces_per_second", "Speed of one reply once it is written.", buckets=PIECES_A_SECOND
        )
        self._writing = made(Gauge, "writing", "Replies that are being written now.")
        self._waiting = made(Gauge, "waiting", "Replies in line now.")
        memory = made(
            Gauge, "memory_bytes", "Resident memory of the app and of the process that writes for it, if any."
        )
        memory.set_function(memory_bytes)

    def watch(self, places: Places) -> None:
        """Tell how many replies are written and wait there."""
        self._writing.set_function(lambda: places.writing)
        self._waiting.set_function(lambda: places.waiting)

    def timed(self, engine: Engine) -> Engine:
        """The engine with its pieces counted and their speed taken, without the time in line."""
        return _Timed(engine, self._pieces, self._speed) if self.on else engine

    def counted(self, replies: Generator[Reply]) -> Generator[Reply]:
        """What `conversation.respond` yields, counted at its end."""
        return self._count(replies) if self.on else replies

    def rate(self, rating: str) -> None:
        """Count a person's rating of a reply: one of the page's own words for it, never theirs."""
        if self.on:
            self._rated.labels(rating).inc()

    def page(self, _: Request) -> Response:
        """/metrics: Prometheus text."""
        if not self.on:
            return PlainTextResponse("Metrics are off. METRICS=on counts replies and times, never text.\n", 404)
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    def sums(self) -> dict[str, float]:
        """Every number summed over its labels, a histogram's as count and sum."""
        sums: dict[str, float] = defaultdict(float)
        for metric in self._registry.collect():
            for sample in metric.samples:
                if not sample.name.endswith("_bucket"):
                    sums[sample.name] += sample.value
        return dict(sums)

    def _count(self, replies: Generator[Reply]) -> Generator[Reply]:
        began = time.monotonic()
        asked_model = first_seen = False
        receipt: dict[str, Any] = {}
        with closing(replies):
            try:
                for reply in replies:
                    receipt = reply.receipt
                    if receipt["source"] == "model":
                        asked_model = True
                        if reply.text and not first_seen:
                            first_seen = True
                            self._first.observe(time.monotonic() - began)
                    yield reply
            except GeneratorExit:  # the person stopped it, or left
                self._stopped.inc()
                raise
        self._replies.labels(receipt["source"], receipt["level"], receipt["category"]).inc()
        self._seconds.labels(receipt["source"]).observe(time.monotonic() - began)
        for problem in receipt["withheld"]:
            self._withheld.labels(problem).inc()
        if receipt["error"]:
            part = "app" if receipt["error"] == "fault" else "engine" if asked_model else "call"
            self._faults.labels(part).inc()


@dataclass(frozen=True)
class _Timed:
    engine: Engine
    pieces: Counter
    speed: Histogram

    def stream(self, messages: Sequence[Message], params: GenerationParams, stop: threading.Event) -> Generator[str]:
        """See `support.engines.base.Engine`."""
        written, first, last = 0, 0.0, 0.0
        with closing(self.engine.stream(messages, params, stop)) as pieces:
            try:
                for piece in pieces:
                    if piece:
                        last = time.monotonic()
                        first = first or last
                        written += 1
                    yield piece
            finally:
                self.pieces.inc(written)
                if last > first:
                    self.speed.observe((written - 1) / (last - first))

    def describe(self) -> dict[str, Any]:
        """See `support.engines.base.Engine`."""
        return self.engine.describe()
