"""Will it fit, and how long will it take? Memory and time of a recipe on each kind of card, before anything is loaded.

    python -m training.plan --config training/recipes/seed.yaml
    python -m training.plan --hardware T4 --base_model meta-llama/Llama-2-13b-chat-hf --quantization none

Prints a table. With `--hardware`, the memory part by part; where the recipe cannot fit, what to change, and exit status 1.
`training.qlora` asks the same before it loads a model.

Bytes are counted from the model's shape (`memory`); the count is checked against measured peaks in the tests and in
`model_card/results`. Time is tokens times operations over the card's speed, of which training in 4 bits reaches a share that
differs by library and length: a range is given. It is of training alone: evaluations come on top. Knows nothing about data but
its length, and loads no weights.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from support.prompt import SYSTEM_PROMPT
from training import TrainingError, named
from training.recipe import Recipe, read_recipe

GIB = 2**30
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # a weight, its share of an 8-bit scale of 64, and of that scale's own
REACHED = (0.08, 0.30)  # of the card's peak: transformers of 2024 on a T4 at the one end, fused kernels at the other
TOKENS_OF_A_WORD = 1.35  # English prose, vocabularies of 32,000 to 50,000
ROWS, WORDS = 1_000, 170  # of data that is not there yet: the dataset's mean question and answer


@dataclass(frozen=True)
class Shape:
    """What of a Llama-like model memory depends on. Sizes are widths."""

    layers: int
    hidden: int
    intermediate: int
    keys: int  # keys or values of all heads together
    vocabulary: int
    tied: bool = False

    @property
    def linear(self) -> int:
        """Weights of all linear layers of the blocks: what is quantised, and what LoRA stands beside."""
        return self.layers * sum(rows * columns for rows, columns in self.matrices())

    @property
    def other(self) -> int:
        """Weights of embeddings, output layer and norms: never quantised."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + (2 * self.layers + 1) * self.hidden

    def matrices(self) -> list[tuple[int, int]]:
        """(in, out) of each linear layer of one block: q, k, v, o, gate, up, down."""
        h, i, k = self.hidden, self.intermediate, self.keys
        return [(h, h), (h, k), (h, k), (h, h), (h, i), (h, i), (i, h)]

    def adapter(self, rank: int) -> int:
        return self.layers * sum(rank * (rows + columns) for rows, columns in self.matrices())


# Gated models cannot be asked without a token. From their config.json.
KNOWN = {
    "meta-llama/Llama-2-7b": Shape(32, 4096, 11008, 4096, 32000),
    "meta-llama/Llama-2-13b": Shape(40, 5120, 13824, 5120, 32000),
    "meta-llama/Llama-2-70b": Shape(80, 8192, 28672, 1024, 32000),
}


@dataclass(frozen=True)
class Hardware:
    """A kind of card. `memory` as a process can use it, in GiB; `tflops` at 16 bits, dense, from the vendor's sheet."""

    name: str
    memory: float
    tflops: float
    devices: int = 1


CARDS = [
    Hardware("T4", 14.6, 65),
    Hardware("2xT4", 14.6, 65, devices=2),
    Hardware("P100", 15.9, 18.7),
    Hardware("L4", 22.0, 121),
    Hardware("A10G", 22.0, 70),
    Hardware("A100", 79.0, 312),
    Hardware("H100", 79.0, 989),
]
OVERHEAD = 0.7  # GiB: the CUDA context, libraries' work space, and what the allocator loses between blocks
OVERHEAD_CPU = 0.9  # GiB: Python with torch, transformers, peft and datasets imported


def memory(shape: Shape, recipe: Recipe, cpu: bool = False) -> dict[str, float]:
    """GiB by part, at the peak: the backward pass of a batch of rows as long as they may be.

    Args:
        shape: of the base model.
        recipe: its batch_size is of one device.
        cpu: this machine's, in the precision it computes in, with an optimizer in fp32; else in 16 bits with 8-bit Adam.
    """
    width, adam = (_width_here(), 8) if cpu else (2, 2)
    tokens = recipe.batch_size * recipe.max_length
    adapter = shape.adapter(recipe.lora_r)
    each = _activations(shape, width, dropout=recipe.lora_dropout > 0)
    kept = shape.hidden * width if recipe.activation_checkpointing else each
    parts = {
        "base weights": shape.linear * (NF4_BYTES if recipe.quantization == "nf4" else width) + shape.other * width,
        "adapter, gradients, optimizer": adapter * (4 + 4 + adam),
        "activations": tokens * (shape.layers * kept + (each if recipe.activation_checkpointing else 0)),
        # Logits of the supervised tokens, once in fp32, and their gradient in both.
        "logits": tokens * shape.vocabulary * (2 * width + 8),
        "a layer unpacked": max(rows * columns for rows, columns in shape.matrices()) * width * 2
        if recipe.quantization == "nf4"
        else 0,
    }
    return {name: size / GIB for name, size in parts.items()} | {"overhead": OVERHEAD_CPU if cpu else OVERHEAD}


def _width_here() -> int:
    """Bytes of a number that this machine computes with."""
    from training.qlora import compute_dtype  # which needs this file

    return compute_dtype().itemsize


def _activations(shape: Shape, width: int, dropout: bool) -> float:
    """Bytes that one token leaves in one block for the backward pass.

    The larger part: the input of each adapted layer in fp32, as PEFT casts it outside `ResumableTrainer`, and dropout's result
    and mask. Training keeps less, and its peak was below the plan by that (5.6 GiB of 6.4 without checkpointing).
    """
    inputs = sum(rows for rows, _ in shape.matrices())
    adapted = inputs * ((4 if width < 4 else 0) + (5 if dropout else 0))
    norms = 2 * shape.hidden * (4 + width)
    attention = (2 * shape.hidden + 2 * shape.keys) * width * 2  # before and after the rotary embedding
    feed_forward = 4 * shape.intermediate * width
    return adapted + norms + attention + feed_forward + 2 * shape.hidden * width


def seconds(shape: Shape, recipe: Recipe, hardware: Hardware, tokens: int) -> tuple[float, float]:
    """(at best, at worst) of training on `tokens` in all, evaluations left out. Several cards are as slow as one at worst.

    Two operations a weight forward and two backward: the base's weights get no gradient. With checkpointing two more.
    """
    weights = shape.linear + shape.vocabulary * shape.hidden
    operations = tokens * weights * (6 if recipe.activation_checkpointing else 4)
    slowest, fastest = REACHED
    speed = hardware.tflops * 1e12
    return operations / (speed * fastest * hardware.devices), operations / (speed * slowest)


def shape_of(base_model: str) -> Shape:
    """The shape of a model in a folder, on the Hub, or of those known here.

    Raises:
        TrainingError: its config cannot be read, or is of another kind.
    """
    for name, shape in KNOWN.items():
        if base_model.startswith(name):
            return shape
    from transformers import AutoConfig

    try:
        config: Any = AutoConfig.from_pretrained(base_model)
        return Shape(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            keys=config.num_key_value_heads * (config.hidden_size // config.num_attention_heads),
            vocabulary=config.vocab_size,
            tied=config.tie_word_embeddings,
        )
    except (OSError, ValueError, AttributeError) as error:
        raise TrainingError(
            f"The shape of {base_model} could not be read ({named(error)}); check base_model: it must be a Llama-like model, "
            "and a gated one needs its licence accepted on the Hub, and HF_TOKEN."
        ) from error


def tokens_of(recipe: Recipe) -> int:
    """Tokens that a run reads, all epochs: of the prepared data where it is there, else of ROWS rows of the dataset.

    Where the recipe draws some of the rows, that share of them.
    """
    prompt = len(SYSTEM_PROMPT.split()) * TOKENS_OF_A_WORD
    path = Path(recipe.data) / "train.jsonl"
    if path.exists():
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        words = [len(row["context"].split()) + len(row["response"].split()) for row in rows]
    else:
        words = [WORDS] * ROWS
    lengths = [min(recipe.max_length, prompt + count * TOKENS_OF_A_WORD) for count in words]
    if recipe.max_steps > 0:
        step = recipe.batch_size * recipe.gradient_accumulation
        return int(sum(lengths) / len(lengths) * step * recipe.max_steps)
    share = min(1, recipe.rows / len(lengths)) if recipe.rows else 1
    return int(sum(lengths) * share * recipe.epochs)


def changes(shape: Shape, recipe: Recipe, room: float, cpu: bool = False) -> list[str]:
    """The mildest changes with which the recipe needs at most `room` GiB, as settings; [] where none of ours suffice."""
    made: list[str] = []
    for setting, value in _milder(recipe):
        if setting == "batch_size":
            grown = recipe.gradient_accumulation * recipe.batch_size // value
            recipe = replace(recipe, gradient_accumulation=grown)
            made = [change for change in made if not change.startswith(("--batch_size", "--gradient"))]
            made.append(f"--gradient_accumulation {grown}")
        recipe = replace(recipe, **{setting: value})
        made = [change for change in made if not change.startswith(f"--{setting} ")]
        made.append(f"--{setting} {str(value).lower() if isinstance(value, bool) else value}")
        if sum(memory(shape, recipe, cpu).values()) <= room:
            return made
    return []


def _milder(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """Settings that need less memory, those that change the result least first."""
    if recipe.quantization == "none":
        yield "quantization", "nf4"
    if not recipe.activation_checkpointing:
        yield "activation_checkpointing", True
    size = recipe.batch_size
    while size > 1:
        size //= 2
        yield "batch_size", size
    length = recipe.max_length
    while length > 256:
        length //= 2
        yield "max_length", length


def demand_room(shape: Shape, recipe: Recipe, room: float, name: str, cpu: bool = False) -> dict[str, float]:
    """GiB by part. Raises TrainingError where they are more than `room`, naming what to change."""
    parts = memory(shape, recipe, cpu)
    if sum(parts.values()) <= room:
        return parts
    better = changes(shape, recipe, room, cpu)
    fix = f"use {' '.join(better)}" if better else "use a smaller base_model, or a card with more memory"
    raise TrainingError(
        f"This needs about {sum(parts.values()):.1f} GiB and {name} has {room:.1f}: "
        f"{', '.join(f'{part} {size:.1f}' for part, size in parts.items())}. To make it fit: {fix}."
    )


def table(shape: Shape, recipe: Recipe, cards: Sequence[Hardware] = CARDS) -> str:
    """One line for each kind of card."""
    tokens = tokens_of(recipe)
    need = sum(memory(shape, recipe).values())
    lines = [
        f"{recipe.base_model} in {recipe.quantization}, rank {recipe.lora_r}, {recipe.max_length} tokens, "
        f"{recipe.batch_size} rows at once; {tokens:,} tokens in all; minutes without evaluations",
        f"{'card':<8}{'has GiB':>8}{'needs':>8}  {'minutes':>12}  ",
    ]
    for card in cards:
        best, worst = seconds(shape, recipe, card, tokens)
        verdict = "fits" if need <= card.memory else " ".join(changes(shape, recipe, card.memory)) or "cannot fit"
        lines.append(
            f"{card.name:<8}{card.memory:>8.1f}{need:>8.1f}  {best / 60:>5.0f} - {worst / 60:<4.0f}  {verdict}"
        )
    return "\n".join(lines)


def here() -> tuple[str, float, bool]:
    """(name, GiB that a process can use, whether it is the CPU) of what this process would train on."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory / GIB, False
    return "this machine", psutil.virtual_memory().available / GIB, True


def this_cpu() -> Hardware:
    """This machine's processors: memory that is free, and the speed of a product of two matrices as training computes it."""
    import torch

    from training.qlora import compute_dtype

    square = torch.rand(1024, 1024, dtype=compute_dtype())
    square @ square
    started = time.perf_counter()
    for _ in range(4):
        square @ square
    tflops = 4 * 2 * 1024**3 / (time.perf_counter() - started) / 1e12
    return Hardware("cpu", psutil.virtual_memory().available / GIB, tflops)


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--hardware", choices=[*(card.name for card in CARDS), "cpu"])
    options, rest = parser.parse_known_args()
    from training.qlora import base_of

    try:
        recipe = read_recipe(rest)
        shape = shape_of(base_of(recipe)[0])
        if not options.hardware:
            print(table(shape, recipe))
            return
        card = this_cpu() if options.hardware == "cpu" else next(c for c in CARDS if c.name == options.hardware)
        parts = demand_room(shape, recipe, card.memory, card.name, cpu=card.name == "cpu")
    except TrainingError as error:
        raise SystemExit(str(error)) from None
    for part, size in parts.items():
        print(f"{part:<32}{size:>7.2f} GiB")
    best, worst = seconds(shape, recipe, card, tokens_of(recipe))
    print(
        f"{'in all':<32}{sum(parts.values()):>7.2f} GiB of {card.memory:.1f}; {best / 60:.0f} to {worst / 60:.0f} minutes, "
        "evaluations not counted"
    )


if __name__ == "__main__":
    main()
