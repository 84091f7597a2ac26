"""Which precision suits the embedded model on this machine: speed, memory and how well it predicts, as ratios to fp32.

    python -m benchmarks.quantization [--json OUT]

All figures come from one run, so the ratios hold where absolute times do not. The loss is over short texts written for
this benchmark: higher than fp32's means that the precision costs the model some of its sense.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from support import measured, prompt
from support.engines import GenerationParams
from support.engines.choice import Hardware, choose
from support.engines.transformers import Loaded, TransformersEngine, load
from support.settings import Settings

PRECISIONS = ("none", "bf16", "nf4")
TOKENS = 96
ROUNDS = 3
QUESTION = "I feel stressed about my exams and I cannot sleep. What could help me tonight?"
TEXTS = (
    "It makes sense that you feel worn out after a week like that. Rest can feel hard when your mind keeps going, so try "
    "to put the phone away an hour before bed and write down what worries you.",
    "Losing a friend hurts, even when nobody did anything wrong. You could tell one person you trust how much you miss "
    "them, and let yourself be sad for a while.",
    "Many people feel alone in a new city at first. A small regular thing, such as a class or a walk with a neighbour, "
    "often helps more than one big event.",
)


def measure(precision: str) -> dict[str, float]:
    """tokens/s after the first token (median of rounds), seconds to the first token, megabytes of weights, mean loss in
    nats per token."""
    loaded = load(Settings(quantization=precision))
    with closing(TransformersEngine(loaded, context_tokens=2048)) as engine:
        rounds = [_one_reply(engine, loaded.tokenizer) for _ in range(ROUNDS)]
    return {
        "tok/s": statistics.median(rate for rate, _ in rounds),
        "first s": statistics.median(first for _, first in rounds),
        "MB": loaded.model.get_memory_footprint() / 1e6,
        "loss": _loss(loaded),
    }


def _one_reply(engine: TransformersEngine, tokenizer: Any) -> tuple[float, float]:
    params = GenerationParams(max_new_tokens=TOKENS, temperature=0)
    messages = prompt.build([{"role": "user", "content": QUESTION}])
    start = time.perf_counter()
    timed = [(time.perf_counter(), piece) for piece in engine.stream(messages, params, threading.Event())]
    first, last = next(at for at, piece in timed if piece), timed[-1][0]
    tokens = len(tokenizer("".join(piece for _, piece in timed))["input_ids"])
    return (tokens - 1) / (last - first), first - start


@torch.inference_mode()
def _loss(loaded: Loaded) -> float:
    ids = [torch.tensor([loaded.tokenizer(text)["input_ids"]]) for text in TEXTS]
    return statistics.mean(loaded.model(input_ids=one, labels=one).loss.item() for one in ids)


def table(rows: dict[str, dict[str, float]]) -> str:
    base = rows[PRECISIONS[0]]
    lines = [f"{'precision':<10}" + "".join(f"{name:>10}{'ratio':>8}" for name in base)]
    for precision, row in rows.items():
        cells = "".join(f"{row[name]:>10.2f}{row[name] / base[name]:>8.2f}" for name in base)
        lines.append(f"{precision:<10}{cells}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quantization", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--json", type=Path, help="where the figures are saved, for README")
    options = parser.parse_args()
    rows = {}
    for precision in PRECISIONS:
        rows[precision] = measure(precision)
        gc.collect()
    if options.json:
        measured.save(
            options.json, {"model": choose(Settings(), Hardware.detect()).model, "precisions": rows}, parser.prog
        )
    print(table(rows))


if __name__ == "__main__":
    main()
