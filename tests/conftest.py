"""What several rooms' tests share: a scripted engine, the shared folder's data, and the markers' order."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.screening import LEARNED
from support.screening.tuned import Shared

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

ROOT = Path(__file__).parent.parent
SLOW = ("model", "server", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first: a broken rule shows in seconds, not after the browser."""
    items.sort(
        key=lambda item: max((SLOW.index(mark) + 1 for mark in SLOW if item.get_closest_marker(mark)), default=0)
    )


def use(made: Any, shared: Shared[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`made` where the process keeps its own classifier, for one test."""
    for name, value in {"_made": made, "problem": None, "_kept": OrderedDict()}.items():
        monkeypatch.setattr(shared, name, value)


@pytest.fixture(autouse=True)
def rules_alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick tests are of rules and phrases alone: they load no encoder. Those marked `model` have the classifiers."""
    if not any(request.node.get_closest_marker(mark) for mark in SLOW):
        for learned in LEARNED.values():
            use(None, learned, monkeypatch)
            learned.problem = f"The {learned.name} is off in quick tests."


# Fifty sentences, each its own: the gate withholds a text that repeats itself.
LONG = " ".join(
    f"The {colour} {seat} by the {place} is a good one to rest in."
    for place in ("window", "door", "lamp", "shelf", "stairs")
    for colour in ("green", "brown", "white", "old", "soft")
    for seat in ("armchair", "cushion")
)


class ScriptedEngine:
    """An engine that says what a test needs a model to say, which no real model does on demand.

    Gives it in small pieces, `pause` seconds apart, counts them, and keeps the protocol: it ends when `stop` is set.
    """

    def __init__(
        self,
        text: str = "That sounds hard. What would help you tonight?",
        fault: Exception | None = None,
        at_once: int = 1,
        pause: float = 0,
    ) -> None:
        self.text, self.fault, self.at_once, self.pause = text, fault, at_once, pause
        self.asked: list[list[dict]] = []
        self.pieces_given = 0
        self.stopped = False
        self.ended = threading.Event()
        self.closed = False

    def stream(self, messages, params, stop: threading.Event) -> Iterator[str]:
        self.asked.append(list(messages))
        try:
            for start in range(0, len(self.text), 3):
                if stop.is_set():
                    return
                self.pieces_given += 1
                yield self.text[start : start + 3]
                stop.wait(self.pause)
            if self.fault:
                raise self.fault
        finally:
            self.stopped = stop.is_set()
            self.ended.set()

    def close(self) -> None:
        self.closed = True

    def describe(self) -> dict:
        return {
            "status": "ready",
            "model": "scripted",
            "adapter": None,
            "quantization": None,
            "device": "cpu",
            "demonstration": False,
            "at_once": self.at_once,
        }


class HeldEngine(ScriptedEngine):
    """Holds its two places until `go`, as a slow model would."""

    def __init__(self) -> None:
        super().__init__(at_once=2)
        self.go = threading.Event()

    def stream(self, messages, params, stop: threading.Event) -> Iterator[str]:
        while not self.go.wait(0.05):
            if stop.is_set():
                return
            yield ""
        yield from super().stream(messages, params, stop)


@pytest.fixture
def scripted():
    return ScriptedEngine


# The running app is shared by the tests of the endpoints and of the browser.
pytest_plugins = ["tests.app.running"]
