"""How long screening takes for one message: rules alone, and with the classifier, cold (never seen before).

    python -m benchmarks.screening

Messages are the classifier's examples, each once. The bar is 5 ms (rules) and 50 ms (with the classifier) at p95 on two
cores; the last rows are a message of 8,000 characters, the most a person can send, and one of 100,000. The ratio to the
rules' median is what holds on another machine.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence

from support.screening.classifier import Classifier
from support.screening.normalise import normalise
from support.screening.requests import request
from support.screening.rules import rule_book
from training.screening.dataset import read_examples

MESSAGES = 400
WARM_UP = 20


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


def row(name: str, times: Sequence[float], base: float) -> str:
    middle, high = statistics.median(times), times[min(len(times) - 1, int(len(times) * 0.95))]
    return f"{name:<44}{middle:>9.2f}{high:>9.2f}{middle / base:>9.1f}"


def main() -> None:
    book, classifier = rule_book(), Classifier()
    texts = [example.text for example in read_examples()]
    random.Random(1).shuffle(texts)
    texts = texts[:MESSAGES]
    long = " ".join(texts)

    def rules(text: str) -> object:
        return book.judge(book.read(text)), request(text)

    def both(text: str) -> object:
        return rules(text), classifier([text])

    base = statistics.median(milliseconds(rules, texts))
    print(f"{'one message of ' + str(MESSAGES) + ', milliseconds':<44}{'p50':>9}{'p95':>9}{'ratio':>9}")
    print(row("normalise", milliseconds(normalise, texts), base))
    print(row("rules and requests", milliseconds(rules, texts), base))
    print(row("rules, requests and classifier", milliseconds(both, texts), base))
    print(row("8,000 characters, with the classifier", milliseconds(both, [long[:8_000]] * 5), base))
    print(row("100,000 characters, rules and requests", milliseconds(rules, [(long * 2)[:100_000]] * 3), base))


if __name__ == "__main__":
    main()
