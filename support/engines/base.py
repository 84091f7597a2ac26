"""What an engine is: one protocol, its parameters, and its errors.

An engine knows nothing about screening, replies or pages. Whoever calls it screens first and gates after.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from support.prompt import Message
from support.settings import Settings


class EngineError(RuntimeError):
    """No words can come from this engine. The message is one sentence for a person and names the fix.

    EngineError
    ├── EngineBusy         this visitor, or everybody, has too many replies in hand
    ├── ModelUnavailable   the model did not load: gated, missing, no token, bad adapter, no memory
    └── GenerationFailed   it loaded, and broke while it wrote
    """


class EngineBusy(EngineError):
    pass


class ModelUnavailable(EngineError):
    pass


class GenerationFailed(EngineError):
    pass


@dataclass(frozen=True)
class GenerationParams:
    """How a reply is sampled. The defaults keep a small model from repeating itself.

    Attributes:
        max_new_tokens: longest reply, tokens.
        temperature: 0 is greedy.
        top_p: nucleus mass in (0, 1].
        repetition_penalty: > 1 makes tokens already used less likely (CTRL, arXiv 1909.05858).
        no_repeat_ngram_size: a run of this many tokens never occurs twice in the text; 0 is off.
    """

    max_new_tokens: int = Settings.max_new_tokens
    temperature: float = 0.4
    top_p: float = 0.9
    repetition_penalty: float = 1.1
    no_repeat_ngram_size: int = 6

    def __post_init__(self) -> None:
        if not 1 <= self.max_new_tokens <= 4096:
            raise ValueError("max_new_tokens must be between 1 and 4096.")
        if not 0 <= self.temperature <= 2:
            raise ValueError("temperature must be between 0 and 2.")
        if not 0 < self.top_p <= 1:
            raise ValueError("top_p must be above 0 and at most 1.")

    @classmethod
    def clamped(cls, max_new_tokens: Any, temperature: Any, top_p: Any) -> GenerationParams:
        """Parameters from sliders, brought into range: what a page sends can be forged."""
        return cls(
            max_new_tokens=int(_within(max_new_tokens, 16, 1024, cls.max_new_tokens)),
            temperature=_within(temperature, 0.0, 2.0, cls.temperature),
            top_p=_within(top_p, 0.05, 1.0, cls.top_p),
        )


def _within(value: Any, low: float, high: float, default: float) -> float:
    if not isinstance(value, (int, float)) or value != value:  # NaN is unequal to itself
        return default
    return min(max(value, low), high)


class Waiting(str):
    """A piece without words: the reply stands in line, and `position` is its place there, 1 for the next."""

    position: int

    def __new__(cls, position: int) -> Waiting:
        piece = super().__new__(cls)
        piece.position = position
        return piece


class Engine(Protocol):
    """Where words come from."""

    def stream(self, messages: Sequence[Message], params: GenerationParams, stop: threading.Event) -> Generator[str]:
        """Pieces of the reply, in order; "" where the engine only says that it is alive.

        Takes `messages` as `prompt.build` returns them and drops the oldest exchanges that do not fit. Ends within one
        token of `stop` being set, or of the generator being closed.

        Raises:
            EngineError: no reply can come.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """`status` (loading, ready, unavailable), `model`, `adapter`, `quantization`, `device`, `engine` (its name),
        `demonstration`; `at_once`, how many replies it can write at a time, where that is more than one; `problem`, one
        sentence, where status is unavailable. Never blocks."""
        ...
