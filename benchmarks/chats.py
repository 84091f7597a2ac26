"""Many chats at once, and long ones: what batching gives on this machine, as ratios to one chat at a time.

    python -m benchmarks.chats            about five minutes on two cores; MODEL_ID, QUANTIZATION and so on choose the model

Tokens/s of all chats together, for 1 and for 8; seconds to the first token at a conversation's first and tenth turn, which has
some 3,000 tokens. All figures come from one run, so the ratios hold where absolute times do not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from support import prompt
from support.engines import GenerationParams
from support.engines.transformers import TransformersEngine, load
from support.prompt import Message
from support.settings import Settings

SHORT = GenerationParams(max_new_tokens=64, temperature=0)  # a reply, for the speed
LONG = GenerationParams(max_new_tokens=256, temperature=0)  # a turn of the conversation
TURNS = 10
MESSAGES = (
    "I feel stressed about my exams and I cannot sleep. What could help me tonight?",
    "My best friend moved away last month, and since then I sit at home most evenings.",
    "Work is too much lately, and my manager does not see it.",
    "I argue with my mother about small things, and afterwards I feel guilty for hours.",
    "I used to enjoy drawing. Now the pencils lie there and I look at my phone.",
    "My new city feels empty to me, although there are people everywhere.",
    "I keep putting off what matters, and then I am angry with myself.",
    "I worry about money every night, and in the morning I am tired.",
)


def speed(engine: TransformersEngine, tokenizer: Any, chats: int) -> float:
    """Tokens/s of `chats` replies at once, from the first question to the last word."""

    def written(message: str) -> int:
        text, _ = _reply(engine, [Message(role="user", content=message)], SHORT)
        return len(tokenizer(text)["input_ids"])

    start = time.perf_counter()
    with ThreadPoolExecutor(chats) as threads:
        tokens = sum(threads.map(written, MESSAGES[:chats]))
    return tokens / (time.perf_counter() - start)


def conversation(engine: TransformersEngine) -> list[Message]:
    """Ten questions with the engine's own answers to all but the last."""
    turns: list[Message] = []
    for turn in range(TURNS):
        turns.append(Message(role="user", content=f"{MESSAGES[turn % len(MESSAGES)]} It is day {turn} of this."))
        if turn < TURNS - 1:
            turns.append(Message(role="assistant", content=_reply(engine, turns, LONG)[0]))
    return turns


def first_token(engine: TransformersEngine, turns: Sequence[Message]) -> float:
    """Seconds to the first token of a reply."""
    return _reply(engine, turns, GenerationParams(max_new_tokens=2, temperature=0))[1]


def _reply(engine: TransformersEngine, turns: Sequence[Message], params: GenerationParams) -> tuple[str, float]:
    """Its text, and seconds to the first piece of it."""
    start, first, text = time.perf_counter(), 0.0, ""
    for piece in engine.stream(prompt.build(turns), params, threading.Event()):
        text += piece
        if piece and not first:
            first = time.perf_counter() - start
    return text, first


def measure(engine: TransformersEngine, tokenizer: Any, turns: Sequence[Message]) -> dict[str, float]:
    first_turn = [Message(role="user", content="I had a long day, and nobody asked how it was.")]
    return {
        "1 chat, tok/s": speed(engine, tokenizer, 1),
        f"{len(MESSAGES)} chats, tok/s": speed(engine, tokenizer, len(MESSAGES)),
        "turn 1, s": first_token(engine, first_turn),
        f"turn {TURNS}, s": first_token(engine, turns),
    }


def main() -> None:
    loaded = load(Settings.from_env())
    with closing(TransformersEngine(loaded, context_tokens=4096)) as engine:
        turns = conversation(engine)
        batched = measure(engine, loaded.tokenizer, turns)
    in_turn = measure(engine, loaded.tokenizer, turns)  # what is asked of a closed engine takes turns
    tokens = len(prompt.render(prompt.build(turns), loaded.tokenizer))
    print(f"{loaded.choice.model}, {loaded.choice.quantization}; {tokens} tokens at turn {TURNS}")
    print(f"{'':<18}{'in turn':>10}{'batched':>10}{'ratio':>8}")
    for name, figure in in_turn.items():
        print(f"{name:<18}{figure:>10.2f}{batched[name]:>10.2f}{batched[name] / figure:>8.2f}")


if __name__ == "__main__":
    main()
