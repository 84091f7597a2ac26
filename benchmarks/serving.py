"""How answering holds up: one chat, many at once, long ones, through the whole app, for minutes. Ratios from one run.

    python -m benchmarks.serving [--minutes 10] [--json OUT] [--plot PNG]
    ENGINE, MODEL_ID, QUANTIZATION and so on choose what is measured, as for the app

Beside the engine stands the plainest way to serve the same model: transformers' `generate`, a chat at a time, the whole
conversation read anew at every turn. Where requirements-bench.txt is installed and the model is the embedded one, llama.cpp
reads the same file in the same run. Greedy but for what goes through the app. Tokens are counted by the model's own tokenizer.
"""

from __future__ import annotations

import argparse
import re
import statistics
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from gradio_client import Client

from support import engines, measured, prompt
from support.engines import Engine, GenerationParams
from support.metrics import memory_bytes
from support.prompt import Message
from support.settings import Settings

CHATS = 8
TURNS = 10
SHORT = GenerationParams(max_new_tokens=64, temperature=0)  # a reply, for the speed
LONG = GenerationParams(max_new_tokens=256, temperature=0)  # a turn of the conversation
ONE = GenerationParams(max_new_tokens=2, temperature=0)  # for the first token
SENTENCE = re.compile(r"[.!?]\s+\S")  # its end, and the next one's beginning, by which the gate too knows it
SETTLED = 0.2  # of the soak: what the process takes until then is its working size
BARS = {
    "decode, to llama.cpp": ">= 0.9",
    f"first token, turn {TURNS} to turn 1": "<= 1.5",
    f"tokens/s, {CHATS} chats to 1": ">= 4 on a CPU, >= 6 on a card",
    "tokens/s, through the app to the engine": ">= 0.95",
    "first sentence, through the app, ms more": "<= 60",
    "errors": "0",
    "memory growth": "<= 0.05",
}
QUESTIONS = (
    "I feel stressed about my exams and I cannot sleep. What could help me tonight?",
    "My best friend moved away last month, and since then I sit at home most evenings.",
    "Work is too much lately, and my manager does not see it.",
    "I argue with my mother about small things, and afterwards I feel guilty for hours.",
    "I used to enjoy drawing. Now the pencils lie there and I look at my phone.",
    "My new city feels empty to me, although there are people everywhere.",
    "I keep putting off what matters, and then I am angry with myself.",
    "I worry about money every night, and in the morning I am tired.",
)


def replied(engine: Engine, turns: Sequence[Message], params: GenerationParams) -> tuple[str, float, float]:
    """Text of a reply, seconds to its first piece, seconds to its end."""
    start, first, text = time.perf_counter(), 0.0, ""
    for piece in engine.stream(prompt.build(turns), params, threading.Event()):
        text += piece
        if piece and not first:
            first = time.perf_counter() - start
    return text, first, time.perf_counter() - start


def question(i: int) -> list[Message]:
    return [Message(role="user", content=QUESTIONS[i % len(QUESTIONS)])]


def decode(engine: Engine, count: Callable[[str], int]) -> float:
    """Tokens/s of one chat after its first token."""
    speeds = []
    for i in range(2):
        text, first, seconds = replied(engine, question(i), LONG)
        speeds.append((count(text) - 1) / (seconds - first))
    return max(speeds)


def together(engine: Engine, chats: int, count: Callable[[str], int]) -> float:
    """Tokens/s of `chats` replies at once, from the first question to the last word."""
    start = time.perf_counter()
    with ThreadPoolExecutor(chats) as threads:
        texts = list(threads.map(lambda i: replied(engine, question(i), SHORT)[0], range(chats)))
    return sum(map(count, texts)) / (time.perf_counter() - start)


def conversation(engine: Engine) -> list[Message]:
    """Questions with the engine's own answers to all but the last."""
    turns: list[Message] = []
    for turn in range(TURNS):
        turns.append(Message(role="user", content=f"{QUESTIONS[turn % len(QUESTIONS)]} It is day {turn} of this."))
        if turn < TURNS - 1:
            turns.append(Message(role="assistant", content=replied(engine, turns, LONG)[0]))
    return turns


def first_token(engine: Engine, turns: Sequence[Message]) -> float:
    """Seconds until the newest turn gets its first token, where the reader has met all turns before."""
    return statistics.median(
        replied(engine, [*turns[:-1], Message(role="user", content=f"{turns[-1]['content']} {i}")], ONE)[1]
        for i in range(3)
    )


def of(engine: Engine, turns: Sequence[Message], count: Callable[[str], int]) -> dict[str, float]:
    """What is measured of the engine and of the plainest way alike."""
    return {
        "decode, tokens/s": decode(engine, count),
        "1 chat, tokens/s": together(engine, 1, count),
        f"{CHATS} chats, tokens/s": together(engine, CHATS, count),
        "turn 1, first token, s": first_token(engine, question(0)),
        f"turn {TURNS}, first token, s": first_token(engine, turns),
    }


def llama_cpp(count: Callable[[str], int]) -> float | None:
    """Tokens/s that llama.cpp decodes of the embedded model's own file; None where its wheel is not installed."""
    try:
        from xllamacpp import CommonParams, Server  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError:
        return None
    from support.engines import embedded

    params = CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = str(embedded.wheel_file()), 2048, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = psutil.cpu_count() or 1
    params.verbosity = 0
    server = Server(params)
    speeds = []
    for i in range(3):
        pieces: list[tuple[float, str]] = []

        def keep(chunk: dict[str, Any], pieces: list[tuple[float, str]] = pieces) -> None:
            text = "".join(choice["delta"].get("content") or "" for choice in chunk.get("choices", ()))
            if text:
                pieces.append((time.perf_counter(), text))

        server.handle_chat_completions(
            {
                "messages": prompt.build(question(i)),
                "max_tokens": LONG.max_new_tokens,
                "temperature": 0,
                "repeat_penalty": 1.1,
                "stream": True,
            },
            keep,
        )
        text = "".join(text for _, text in pieces)
        speeds.append((count(text) - 1) / (pieces[-1][0] - pieces[0][0]))
    return max(speeds)


class Watched:
    """An engine that notes when its newest reply was asked for, had its first sentence, and ended."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.describe = engine.describe
        self.asked = self.sentence = self.ended = 0.0

    def stream(self, messages: Sequence[Message], params: GenerationParams, stop: threading.Event) -> Generator[str]:
        self.asked, self.sentence, text = time.perf_counter(), 0.0, ""
        for piece in self._engine.stream(messages, params, stop):
            text += piece
            if not self.sentence and SENTENCE.search(text):
                self.sentence = time.perf_counter()
            yield piece
        self.ended = time.perf_counter()


def through_the_app(engine: Watched, url: str) -> dict[str, float | None]:
    """What screening, gate, Gradio and its client add to one reply: the share of the time that is the engine's, and the
    milliseconds before it is asked and after its first sentence is there; and of how many replies each is the median."""
    client = Client(url, verbose=False, analytics_enabled=False)
    client.predict(QUESTIONS[0], [], "US", api_name="/chat")  # what loads at the first message
    shares: list[float] = []
    added: list[float] = []
    for asked in QUESTIONS:
        start, shown = time.perf_counter(), 0.0
        job = client.submit(asked, [], "US", api_name="/chat")
        for text, _ in job:
            shown = shown or (time.perf_counter() if text else 0.0)
        end = time.perf_counter()
        if job.result()[1]["source"] == "model":  # a reply that the gate replaced ends before the engine does
            shares.append((engine.ended - engine.asked) / (end - start))
            if engine.sentence:  # a reply of one sentence has no end that is known before its own
                added.append((engine.asked - start + shown - engine.sentence) * 1000)
    return {
        "ratio": statistics.median(shares),
        "ms": statistics.median(added) if added else None,
        "replies": len(shares),
        "first sentences": len(added),
    }


def soak(url: str, minutes: float) -> dict[str, float]:
    """CHATS conversations for `minutes`, each reply answered by the next question: replies, errors, growth of memory."""
    end = time.monotonic() + minutes * 60
    # Bytes after each reply: of this process, which serves and asks, and of those that write for it.
    sizes: list[int] = []

    def chat(person: int) -> tuple[int, int]:
        client = Client(url, headers={"x-forwarded-for": f"192.0.2.{person}"}, verbose=False, analytics_enabled=False)
        history: list[dict[str, str]] = []
        replies = errors = 0
        while time.monotonic() < end:
            asked = f"{QUESTIONS[(person + len(history)) % len(QUESTIONS)]} It is day {replies}."
            try:
                text, receipt = client.predict(asked, history, "US", api_name="/chat")
                errors += bool(receipt["error"])
                history = [*history, {"role": "user", "content": asked}, {"role": "assistant", "content": text}][-12:]
            except Exception as error:  # whatever the client raises is one
                print(f"{type(error).__name__}: {error}")
                errors += 1
            replies += 1
            sizes.append(memory_bytes())
        return replies, errors

    with ThreadPoolExecutor(CHATS) as threads:
        replies, errors = map(sum, zip(*threads.map(chat, range(CHATS)), strict=True))
    working = sizes[int(len(sizes) * SETTLED) :]
    half = len(working) // 2
    growth = statistics.mean(working[half:]) / statistics.mean(working[:half]) - 1 if half else 0.0
    return {"minutes": minutes, "replies": replies, "errors": errors, "memory growth": growth}


def measure(settings: Settings, minutes: float) -> dict[str, Any]:
    """Every figure, by the part that it is of."""
    from app import serve
    from support.engines.transformers import TransformersEngine, load

    settings = replace(settings, context_tokens=max(settings.context_tokens, 4096))  # room for the history
    engine = engines.start(settings)
    while engine.describe()["status"] == "loading":
        time.sleep(0.5)
    loaded = load(settings)
    tokenizer = loaded.tokenizer

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    turns = conversation(engine)
    found: dict[str, Any] = {"described": engine.describe(), "engine": of(engine, turns, count)}
    found["history tokens"] = len(prompt.render(prompt.build(turns), tokenizer))
    watched = Watched(engine)
    demo = serve(settings, watched, prevent_thread_lock=True)
    url = str(demo.local_url).rstrip("/")
    found["through the app"] = through_the_app(watched, url)
    found["soak"] = soak(url, minutes)
    demo.close(verbose=False)
    found["llama.cpp, tokens/s"] = llama_cpp(count)
    plain = TransformersEngine(loaded, settings.context_tokens)
    plain.close()  # what is asked of a closed engine takes turns, and reads everything anew
    found["plain"] = of(plain, turns, count)
    return found


def ratios(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> `value`, None where it was not measured, and `bar`."""

    def of_part(part: dict[str, float]) -> tuple[float, float]:
        first = part[f"turn {TURNS}, first token, s"] / part["turn 1, first token, s"]
        return first, part[f"{CHATS} chats, tokens/s"] / part["1 chat, tokens/s"]

    other, soaked = found["llama.cpp, tokens/s"], found["soak"]
    first, together = of_part(found["engine"])
    values = (
        found["engine"]["decode, tokens/s"] / other if other else None,
        first,
        together,
        found["through the app"]["ratio"],
        found["through the app"]["ms"],
        soaked["errors"],
        soaked["memory growth"],
    )
    return {name: {"value": value, "bar": bar} for (name, bar), value in zip(BARS.items(), values, strict=True)}


def table(found: dict[str, Any]) -> str:
    described = found["described"]
    what = ", ".join(str(described[part]) for part in ("model", "engine", "quantization", "device"))
    lines = [f"{what}; {found['history tokens']} tokens at turn {TURNS}"]
    lines.append(f"{'':<34}{'engine':>10}{'a chat at a time':>18}")
    lines += [f"{name:<34}{value:>10.2f}{found['plain'][name]:>18.2f}" for name, value in found["engine"].items()]
    lines.append(f"{'':<44}{'ratio':>10}   bar")
    for name, ratio in ratios(found).items():
        value = "not there" if ratio["value"] is None else f"{ratio['value']:.3g}"
        lines.append(f"{name:<44}{value:>10}   {ratio['bar']}")
    through = found["through the app"]
    lines.append(
        f"through the app: medians of {through['replies']} replies, {through['first sentences']} first sentences"
    )
    lines.append("{replies} replies in {minutes:g} minutes of the soak".format(**found["soak"]))
    return "\n".join(lines)


def plot(found: dict[str, Any], path: Path) -> None:
    """Engine and the plainest way beside each other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(found["engine"])
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), gridspec_kw={"width_ratios": (3, 2)})
    for axis, shown, unit in zip(axes, (names[:3], names[3:]), ("tokens/s", "seconds"), strict=True):
        for offset, part, label in ((-0.2, "plain", "a chat at a time"), (0.2, "engine", "engine")):
            bars = axis.bar([i + offset for i in range(len(shown))], [found[part][n] for n in shown], 0.4, label=label)
            axis.bar_label(bars, fmt="%.3g", fontsize=8)
        axis.set_xticks(range(len(shown)), [name.rsplit(", ", 1)[0] for name in shown])
        axis.set_ylabel(unit)
    axes[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, help="of the soak")
    parser.add_argument("--json", type=Path, help="where the figures are saved, for README")
    parser.add_argument("--plot", type=Path, help="where the plot is saved")
    options = parser.parse_args()
    found = measure(Settings.from_env(), options.minutes)
    found["ratios"] = ratios(found)
    if options.json:
        measured.save(options.json, found, parser.prog)
    if options.plot:
        plot(found, options.plot)
    print(table(found))


if __name__ == "__main__":
    main()
