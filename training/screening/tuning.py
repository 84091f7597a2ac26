"""Tune the sentence encoder to a task: LoRA over all its linear layers and one linear head (`support.screening.tuned`)."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file

from support.screening.encoder import ENGLISH, Encoder, load
from support.screening.ngrams import Ngrams
from support.screening.normalise import normalise, undisguised
from support.screening.tuned import CARD, HEAD, fast_arithmetic, hastened, pooled, read_head, windows

RANK = 16
BATCH, BATCH_ENGLISH = 32, 64
LEARNING_RATE, LEARNING_RATE_ENGLISH = 1e-3, 5e-4  # the larger encoder asks for smaller steps
WARMUP = 0.1
PLAIN, SMALL = 0.1, 0.1  # shares of an epoch that are spelled more plainly than they were written
SEED = 7
NGRAM_WEIGHT = 0.8  # of the n-grams' log-odds beside the encoder's

T = TypeVar("T")


@dataclass(frozen=True)
class Row(Generic[T]):
    """A text, and what is true of it."""

    text: str
    truth: T


class Task(Protocol[T]):
    """What is learned: from which texts, what the head's outputs mean, and from where on they count."""

    outputs: int
    thresholds: dict[str, float]
    sources: dict[str, int]  # for the card: how many examples, by how many authors

    def epoch(self, draw: random.Random) -> Sequence[Row[T]]:
        """The texts of one epoch."""
        ...

    def loss(self, outputs: Any, truths: Sequence[T]) -> Any:
        """Of a batch; outputs: [texts, outputs]."""
        ...

    def ngrams(self) -> Ngrams | None:
        """Fitted to the same texts; None where the encoder does without."""
        ...


@dataclass(frozen=True)
class Trained:
    """Encoder with its adapter, and head."""

    encoder: Encoder
    head: Any


def make(task: Task[Any], encoder_name: str, epochs: int, start: Path | None, out: Path) -> None:
    """Tune to `task`; saved to `out` after each epoch, so that a kill loses one epoch at most.

    Args:
        task: what to learn.
        encoder_name: as `support.screening.encoder.load` takes it.
        epochs: passes over the examples.
        start: a folder saved before to go on from, at half the learning rate; None begins anew.
        out: the folder.
    """
    ngrams = task.ngrams()
    card = {**_card(task, encoder_name, epochs, start), "ngram_weight": NGRAM_WEIGHT if ngrams else 0}
    for trained in _epochs(task, encoder_name, epochs, start):
        save(out, trained, ngrams, card)
        print(f"Saved to {out}.", flush=True)


def _epochs(task: Task[Any], encoder_name: str, epochs: int, start: Path | None) -> Iterator[Trained]:
    torch.manual_seed(SEED)
    draw = random.Random(SEED)
    trained = _adapted(encoder_name, task.outputs, start)
    encoder, head = trained.encoder, trained.head
    encoder.model.eval()  # no dropout: a step takes two thirds of the time without it, and few epochs hardly overfit
    adapter = [p for p in encoder.model.parameters() if p.requires_grad]
    batch_size, rate = (BATCH_ENGLISH, LEARNING_RATE_ENGLISH) if encoder_name == ENGLISH else (BATCH, LEARNING_RATE)
    rate /= 2 if start else 1
    optimizer = torch.optim.AdamW([*adapter, *head.parameters()], lr=rate, weight_decay=0.01)
    steps = epochs * -(-len(task.epoch(random.Random(SEED))) // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    started, running = time.monotonic(), 0.0
    for epoch in range(epochs):
        for step, batch in enumerate(_batches(task.epoch(draw), encoder, batch_size, draw), start=1):
            with fast_arithmetic():
                vectors = pooled(encoder.model, [ids for ids, _ in batch])
            loss = task.loss(head(vectors), [truth for _, truth in batch])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(adapter, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            running = 0.95 * running + 0.05 * loss.item() if running else loss.item()
            if step % 20 == 0:
                passed = time.monotonic() - started
                print(f"epoch {epoch + 1}/{epochs} step {step}  loss {running:.3f}  {passed:.0f} s", flush=True)
        yield trained


def _adapted(encoder_name: str, outputs: int, start: Path | None) -> Trained:
    encoder = load(encoder_name)
    base = hastened(encoder.model.requires_grad_(False))
    if start:
        adapted: Any = PeftModel.from_pretrained(base, str(start), is_trainable=True)
        head = read_head(start, outputs)
    else:
        config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="FEATURE_EXTRACTION")
        adapted, head = get_peft_model(base, config), torch.nn.Linear(base.config.hidden_size, outputs)
    for weights in adapted.parameters():
        if weights.requires_grad:
            weights.data = weights.data.float()
    return Trained(encoder._replace(model=adapted), head)


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to nothing."""
    warm = max(1, int(WARMUP * steps))
    return (step + 1) / warm if step < warm else max(0.0, (steps - step) / max(1, steps - warm))


def _batches(
    rows: Sequence[Row[T]], encoder: Encoder, size: int, draw: random.Random
) -> Iterator[list[tuple[list[int], T]]]:
    """One epoch: batches of `size` texts of like length, in random order."""
    read = [(windows(_spelled(row.text, draw), encoder)[0].ids, row.truth) for row in rows]
    read.sort(key=lambda row: len(row[0]) + draw.random() * 8)
    batches = [read[i : i + size] for i in range(0, len(read), size)]
    draw.shuffle(batches)
    yield from batches


def _spelled(text: str, draw: random.Random) -> str:
    """As the classifier will read it; some in small letters, some without accents and short forms too."""
    way = draw.random()
    if way < PLAIN:
        return normalise(text)
    text = undisguised(text)
    return text.lower() if way < PLAIN + SMALL else text


def save(folder: Path, trained: Trained, ngrams: Ngrams | None, card: dict[str, Any]) -> None:
    """Adapter and n-grams, if any, in fp16, head and card: all of them, or what was there before."""
    whole, folder = folder, folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if ngrams:
        ngrams.save(folder)
    trained.encoder.model.peft_config["default"].base_model_name_or_path = ""  # the card names the encoder
    trained.encoder.model.peft_config["default"].save_pretrained(str(folder))
    adapter = {
        name: value.half().contiguous() for name, value in get_peft_model_state_dict(trained.encoder.model).items()
    }
    save_file(adapter, folder / "adapter_model.safetensors")
    save_file(trained.head.state_dict(), folder / HEAD)
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(whole, ignore_errors=True)
    folder.rename(whole)


def _card(task: Task[Any], encoder_name: str, epochs: int, start: Path | None) -> dict[str, Any]:
    before = json.loads((start / CARD).read_text(encoding="utf-8"))["passes"] if start else []
    return {
        "encoder": encoder_name,
        "passes": [*before, {**task.sources, "epochs": epochs}],
        "rank": RANK,
        "seed": SEED,
        "thresholds": task.thresholds,
    }
