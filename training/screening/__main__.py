"""Train the screening classifier, and tell how well it does on authors it has not read.

    python -m training.screening train                 all examples -> assets/screening/classifier/
    python -m training.screening holdout en_young es   without those files, scored on them: how it does on new authors
    python -m training.screening baseline --encoder .. logistic regression over the frozen encoder: why an adapter is trained

Examples are tab-separated lines in `examples/`, one file for each author and language: level, category, kind, text. All
were written for this project. A file is held out whole, never a random part of it: what one author writes is alike.

LoRA over all linear layers of the encoder, one linear head with ordinal outputs (level >= 1, >= 2, >= 3) and categories;
beside it a linear model over n-grams (`ngrams`).
A third of the examples of each epoch is put beside another of its language, so that a clause in a long text is found and a
long sad text is not at risk for its length. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from support.screening.classifier import (
    CARD,
    FOLDER,
    HEAD,
    LEVELS,
    Classifier,
    fast_arithmetic,
    new_head,
    pooled,
    windows,
)
from support.screening.encoder import EMBEDDED, load
from support.screening.ngrams import Ngrams
from support.screening.normalise import normalise, undisguised
from support.screening.rules import CATEGORIES
from training.screening.dataset import Example, read_examples
from training.screening.measure import baseline, in_batches, report
from training.screening.ngrams import fit

RANK = 16
BATCH = 32
LEARNING_RATE = 1e-3
WARMUP = 0.1
BESIDE_ANOTHER = 0.33
PLAIN, SMALL = 0.1, 0.1  # shares of an epoch that are spelled more plainly than they were written
MOST_TOGETHER = 700  # characters of two texts in one: more, and the window would cut one of them off
SEED = 7
EPOCHS = 4
WEIGHT_OF_LEVELS = torch.tensor([0.5, 1.0, 0.5])
WEIGHT_OF_CATEGORY = 0.2
NGRAM_WEIGHT = 0.8  # of the n-grams' log-odds beside the encoder's
# From which probability on a score counts. Chosen on the development file and the totals of the frozen conversations, so
# the figures on both are a little too good.
THRESHOLDS = {"at_risk": 0.9, "after_risk": 0.5, "joined": 0.95, "imminent": 0.7, "doubt": 0.02}


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
    started, running = time.monotonic(), 0.0
    for epoch in range(epochs):
        encoder.train()
        for step, batch in enumerate(_batches(examples, tokenizer, draw), start=1):
            with fast_arithmetic():
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
        rows.append((windows(_spelled(example.text, draw), tokenizer)[0], example))
    rows.sort(key=lambda row: len(row[0]) + draw.random() * 8)
    batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    draw.shuffle(batches)
    yield from batches


def _spelled(text: str, draw: random.Random) -> str:
    """As the classifier will read it; some in small letters, some without accents and short forms too."""
    way = draw.random()
    if way < PLAIN:
        return normalise(text)
    text = undisguised(text)
    return text.lower() if way < PLAIN + SMALL else text


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


def save(folder: Path, trained: Trained, ngrams: Ngrams, card: dict[str, Any]) -> None:
    """Adapter and n-grams in fp16, head and card: what `support.screening.classifier` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    ngrams.save(folder)
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
        "ngram_weight": NGRAM_WEIGHT,
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
    held = [e for e in examples if e.author in options.authors]
    if options.command == "holdout":
        if not held:
            parser.error(f"name authors to hold out, of {', '.join(sorted({e.author for e in examples}))}")
        with tempfile.TemporaryDirectory() as folder:
            make([e for e in examples if e not in held], options.encoder, options.epochs, None, Path(folder))
            print(report(held, [score.at_risk for score in in_batches(Classifier(Path(folder)), held)]))
        return 0
    make(examples, options.encoder, options.epochs, options.start, options.out)
    return 0


def make(examples: Sequence[Example], encoder_name: str, epochs: int, start: Path | None, out: Path) -> None:
    """Train on `examples`; saved to `out` after each epoch, so that a kill loses one epoch at most."""
    card = card_of(examples, encoder_name, epochs, start)
    ngrams = fit(examples)
    for trained in train(examples, encoder_name, epochs, start):
        save(out, trained, ngrams, card)
        print(f"Saved to {out}.", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
