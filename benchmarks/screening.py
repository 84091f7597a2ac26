"""How long screening takes for one message: rules alone, and with the classifier, cold (never seen before).

    python -m benchmarks.screening [--json OUT]

Messages are the classifier's examples, each once. The bar is 5 ms (rules) and 50 ms (with the classifier) at p95 on two
cores; the last rows are a message of 8,000 characters, the most a person can send, and one of 100,000. The ratio to the
rules' median is what holds on another machine.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from support import measured
from support.screening.classifier import Classifier
from support.screening.normalise import normalise
from support.screening.requests import request
from support.screening.rules import rule_book
from training.screening.dataset import read_examples

MESSAGES = 400
WARM_UP = 20
RULES = "rules and requests"


def milliseconds(work: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    """Of each text, after a warm-up on the first of them."""
    for text in texts[:WARM_UP]:
        work(text)
    found = []
    for text in texts:
        start = time.perf_counter()
        work(text)
        found.append((time.perf_counter() - start) * 1e3)
    return sorted(found)


def timed() -> dict[str, dict[str, float]]:
    """What is done to one message -> milliseconds at p50 and p95."""
    book, classifier = rule_book(), Classifier()
    texts = [example.text for example in read_examples()]
    random.Random(1).shuffle(texts)
    texts = texts[:MESSAGES]
    long = " ".join(texts)

    def rules(text: str) -> object:
        return book.judge(book.read(text)), request(text)

    def both(text: str) -> object:
        return rules(text), classifier([text])

    times = {
        "normalise": milliseconds(normalise, texts),
        RULES: milliseconds(rules, texts),
        "rules, requests and classifier": milliseconds(both, texts),
        "8,000 characters, with the classifier": milliseconds(both, [long[:8_000]] * 5),
        "100,000 characters, rules and requests": milliseconds(rules, [(long * 2)[:100_000]] * 3),
    }
    return {
        name: {"p50": statistics.median(found), "p95": found[min(len(found) - 1, int(len(found) * 0.95))]}
        for name, found in times.items()
    }


def table(found: dict[str, dict[str, float]]) -> str:
    lines = [f"{'one message of ' + str(MESSAGES) + ', milliseconds':<44}{'p50':>9}{'p95':>9}{'ratio':>9}"]
    for name, times in found.items():
        ratio = times["p50"] / found[RULES]["p50"]
        lines.append(f"{name:<44}{times['p50']:>9.2f}{times['p95']:>9.2f}{ratio:>9.1f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screening", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, help="where the times are saved, for README")
    options = parser.parse_args()
    found = timed()
    if options.json:
        measured.save(options.json, {"messages": MESSAGES, "milliseconds": found}, parser.prog)
    print(table(found))


if __name__ == "__main__":
    main()
