"""Train the screening classifier, and tell how well it does on authors it has not read.

    python -m training.screening train                 all examples -> assets/screening/classifier/
    python -m training.screening holdout en_young es   without those files, scored on them: how it does on new authors
    python -m training.screening baseline --encoder .. logistic regression over the frozen encoder: why an adapter is trained

Examples are tab-separated lines in `examples/`, one file for each author and language: level, category, kind, text. All
were written for this project. A file is held out whole, never a random part of it: what one author writes is alike.

LoRA over all linear layers of the encoder, one linear head with ordinal outputs (level >= 1, >= 2, >= 3) and categories.
A third of the examples of each epoch is put beside another of its language, so that a clause in a long text is found and a
long sad text is not at risk for its length. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from support.screening.classifier import CARD, FOLDER, HEAD, LEVELS, new_head, pooled, windows
from support.screening.encoder import EMBEDDED, load
from support.screening.normalise import normalise
from support.screening.rules import CATEGORIES
from training.screening.dataset import Example, read_examples

RANK = 16
BATCH = 32
LEARNING_RATE = 1e-3
WARMUP = 0.1
BESIDE_ANOTHER = 0.33
MOST_TOGETHER = 700  # characters of two texts in one: more, and the window would cut one of them off
SEED = 7
EPOCHS = 4
WEIGHT_OF_LEVELS = torch.tensor([0.5, 1.0, 0.5])
WEIGHT_OF_CATEGORY = 0.2
# From which probability on a score counts. Chosen on the development file and the totals of the frozen conversations, so
# the figures on both are a little too good.
THRESHOLDS = {"at_risk": 0.9, "after_risk": 0.5, "joined": 0.95, "imminent": 0.7}


@dataclass(frozen=True)
class Trained:
    """Encoder with its adapter, tokenizer and head."""

    encoder: Any
    tokenizer: Any
    head: Any


def train(
    examples: Sequence[Example], encoder_name: str = EMBEDDED, epochs: int = EPOCHS, start: Path | None = None
) -> Iterator[Trained]:
    """What is trained so far, after each epoch.

    Args:
        examples: what to learn from.
        encoder_name: as `support.screening.encoder.load` takes it.
        epochs: passes over the examples.
        start: a classifier's folder to go on from, at half the learning rate; None begins anew.
    """
    torch.manual_seed(SEED)
    draw = random.Random(SEED)
    encoder, tokenizer, head = _adapted(encoder_name, start)
    adapter = [p for p in encoder.parameters() if p.requires_grad]
    rate = LEARNING_RATE / (2 if start else 1)
    optimizer = torch.optim.AdamW([*adapter, *head.parameters()], lr=rate, weight_decay=0.01)
    steps = epochs * -(-len(examples) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    bf16 = torch.cpu._is_avx512_bf16_supported()  # faster where the processor multiplies bf16, slower where not
    started, running = time.monotonic(), 0.0
    for epoch in range(epochs):
        encoder.train()
        for step, batch in enumerate(_batches(examples, tokenizer, draw), start=1):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                vectors = pooled(encoder, [ids for ids, _ in batch])
            loss = _loss(head(vectors), [example for _, example in batch])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(adapter, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            running = 0.95 * running + 0.05 * loss.item() if running else loss.item()
            if step % 20 == 0:
                passed = time.monotonic() - started
                print(f"epoch {epoch + 1}/{epochs} step {step}  loss {running:.3f}  {passed:.0f} s", flush=True)
        yield Trained(encoder.eval(), tokenizer, head)


def _adapted(encoder_name: str, start: Path | None) -> tuple[Any, Any, Any]:
    base, tokenizer = load(encoder_name)
    base.requires_grad_(False)
    head = new_head(base.config.hidden_size)
    if start:
        head.load_state_dict(load_file(start / HEAD))
        return PeftModel.from_pretrained(base, str(start), is_trainable=True).float(), tokenizer, head
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="FEATURE_EXTRACTION")
    return get_peft_model(base, config), tokenizer, head


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to nothing."""
    warm = max(1, int(WARMUP * steps))
    return (step + 1) / warm if step < warm else max(0.0, (steps - step) / max(1, steps - warm))


def _batches(
    examples: Sequence[Example], tokenizer: Any, draw: random.Random
) -> Iterator[list[tuple[list[int], Example]]]:
    """One epoch: shuffled, some put beside another, cut into batches of texts of like length."""
    by_language: dict[str, list[Example]] = {}
    for example in examples:
        by_language.setdefault(example.language, []).append(example)
    rows = []
    for example in examples:
        if draw.random() < BESIDE_ANOTHER:
            example = _beside(example, draw.choice(by_language[example.language]), draw)
        rows.append((windows(normalise(example.text), tokenizer)[0], example))
    rows.sort(key=lambda row: len(row[0]) + draw.random() * 8)
    batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    draw.shuffle(batches)
    yield from batches


def _beside(one: Example, other: Example, draw: random.Random) -> Example:
    """Both texts in one message, in any order. What is more at risk says what the whole is."""
    if len(one.text) + len(other.text) > MOST_TOGETHER:
        return one
    first, second = (one, other) if draw.random() < 0.5 else (other, one)
    worse = max(one, other, key=lambda example: example.level)
    return Example(worse.level, worse.category, worse.kind, f"{first.text}. {second.text}", worse.author)


def _loss(outputs: Any, examples: Sequence[Example]) -> Any:
    level = torch.tensor([[float(e.level >= n) for n in range(1, LEVELS + 1)] for e in examples])
    category = torch.tensor([CATEGORIES.index(e.category) for e in examples])
    losses = torch.nn.functional.binary_cross_entropy_with_logits(outputs[:, :LEVELS], level, reduction="none")
    named = torch.nn.functional.cross_entropy(outputs[:, LEVELS:], category)
    return (losses * WEIGHT_OF_LEVELS).sum(-1).mean() + WEIGHT_OF_CATEGORY * named


# Telling how well it does


def probabilities(trained: Trained, texts: Sequence[str]) -> list[float]:
    """Of each text, how likely it is at risk: the highest of its windows."""
    found = []
    with torch.inference_mode():
        for text in texts:
            vectors = pooled(trained.encoder, windows(normalise(text), trained.tokenizer))
            found.append(float(torch.sigmoid(trained.head(vectors)[:, 1]).max()))
    return found


def report(examples: Sequence[Example], scores: Sequence[float]) -> str:
    """By author and kind, the share at or above some thresholds: recall of what is at risk, false positives of the rest."""
    marks = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
    lines = [f"{'author':<12}{'kind':<16}{'at risk':<9}{'rows':>5}  " + "".join(f"{'>= ' + str(m):>9}" for m in marks)]
    groups: dict[tuple[str, str, bool], list[float]] = {}
    for example, score in zip(examples, scores, strict=True):
        risk = example.level >= 2
        groups.setdefault((example.author, example.kind, risk), []).append(score)
        groups.setdefault(("~ all", "", risk), []).append(score)
    lines += [_row(*key, groups[key], marks) for key in sorted(groups)]
    return "\n".join(lines)


def _row(author: str, kind: str, risk: bool, rows: Sequence[float], marks: Sequence[float]) -> str:
    shares = "".join(f"{sum(value >= mark for value in rows) / max(1, len(rows)):>9.3f}" for mark in marks)
    return f"{author:<12}{kind:<16}{'yes' if risk else 'no':<9}{len(rows):>5}  {shares}"


def baseline(examples: Sequence[Example], encoder_name: str) -> str:
    """Each author held out in turn: what a logistic regression over the untrained encoder's vectors would find."""
    encoder, tokenizer = load(encoder_name)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with torch.inference_mode():
        vectors = torch.cat([pooled(encoder, windows(normalise(e.text), tokenizer)[:1]) for e in examples])
    risk = torch.tensor([float(e.level >= 2) for e in examples])
    lines = [f"{'held out':<12}{'rows':>6}{'area under ROC':>16}{'recall at 5 % false positives':>31}"]
    for author in sorted({e.author for e in examples}):
        held = torch.tensor([e.author == author for e in examples])
        found = _logistic_regression(vectors[~held].clone(), risk[~held], vectors[held].clone())
        yes, no = found[risk[held] == 1], found[risk[held] == 0]
        area = (yes[:, None] > no[None]).float().mean()
        recall = (yes > torch.quantile(no, 0.95)).float().mean()
        lines.append(f"{author:<12}{int(held.sum()):>6}{area:>16.3f}{recall:>31.3f}")
    return "\n".join(lines)


def _logistic_regression(known: Any, labels: Any, unknown: Any, penalty: float = 0.02) -> Any:
    """Log-odds of `unknown`; features standardised on `known`."""
    mean, spread = known.mean(0), known.std(0)
    weights = torch.zeros(known.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=200)

    def closure() -> Any:
        optimizer.zero_grad()
        odds = (known - mean) / spread @ weights + bias
        loss = torch.nn.functional.binary_cross_entropy_with_logits(odds, labels) + penalty * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return ((unknown - mean) / spread @ weights + bias).detach()


def save(folder: Path, trained: Trained, card: dict[str, Any]) -> None:
    """Adapter in fp16, head and card: what `support.screening.classifier` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    trained.encoder.peft_config["default"].base_model_name_or_path = ""  # the card names the encoder
    trained.encoder.peft_config["default"].save_pretrained(str(folder))
    adapter = {name: value.half().contiguous() for name, value in get_peft_model_state_dict(trained.encoder).items()}
    save_file(adapter, folder / "adapter_model.safetensors")
    save_file(trained.head.state_dict(), folder / HEAD)
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def card_of(examples: Sequence[Example], encoder_name: str, epochs: int, start: Path | None) -> dict[str, Any]:
    before = json.loads((start / CARD).read_text(encoding="utf-8"))["passes"] if start else []
    return {
        "encoder": encoder_name,
        "passes": [
            *before,
            {"examples": len(examples), "authors": len({e.author for e in examples}), "epochs": epochs},
        ],
        "rank": RANK,
        "seed": SEED,
        "thresholds": THRESHOLDS,
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.screening", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("command", choices=("train", "holdout", "baseline"))
    parser.add_argument("authors", nargs="*", help="holdout: names of example files, such as en_young")
    parser.add_argument("--encoder", default=EMBEDDED, help="embedded, or a model of the same shape on the Hub")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--start", type=Path, help="go on from this classifier's folder, such as after adding examples")
    parser.add_argument("--out", type=Path, default=FOLDER, help="train: where it is saved, after each epoch")
    options = parser.parse_args(arguments)
    examples = read_examples()
    if options.command == "baseline":
        print(baseline(examples, options.encoder))
        return 0
    if options.command == "holdout":
        held = [e for e in examples if e.author in options.authors]
        if not held:
            parser.error(f"name authors to hold out, of {', '.join(sorted({e.author for e in examples}))}")
        kept = [e for e in examples if e.author not in options.authors]
        *_, trained = train(kept, options.encoder, options.epochs)
        print(report(held, probabilities(trained, [e.text for e in held])))
        return 0
    card = card_of(examples, options.encoder, options.epochs, options.start)
    for trained in train(examples, options.encoder, options.epochs, options.start):
        save(options.out, trained, card)
        print(f"Saved to {options.out}.", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
