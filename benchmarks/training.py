"""This trainer beside TRL's SFTTrainer with its defaults: tokens a second and peak memory, same model, rows and machine.

    pip install -r requirements-bench.txt
    python -m benchmarks.training --data outputs/data [--steps 3] [--base_model meta-llama/Llama-2-7b-chat-hf] [--json OUT]

Each trains in a process of its own, one after the other, twice in turn; the better of two counts. Both get the base in NF4,
LoRA on the layers and of the rank of the seed's recipe, its batch and length, and the same rows of `training.prepare`, once:
as many as the steps hold, evenly over all lengths. Everything else is each one's own, the order and padding too. Tokens are
counted without padding, prompts included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from support import measured
from training.encoding import SupervisedCollator, encode_all, read_split
from training.qlora import (
    ResumableTrainer,
    base_of,
    compute_dtype,
    load_base,
    load_tokenizer,
    training_arguments,
    with_new_adapter,
)
from training.recipe import EMBEDDED, Recipe
from training.record import peak_memory

ROUNDS = 2


def sample(recipe: Recipe) -> list[dict[str, str]]:
    """The training rows that the recipe's steps hold: every so many-th by length, in their old order."""
    rows, _ = read_split(Path(recipe.data), "train")
    count = recipe.max_steps * recipe.batch_size * recipe.gradient_accumulation
    if count > len(rows):
        raise SystemExit(f"{recipe.max_steps} steps hold {count} rows and there are {len(rows)}; take fewer --steps.")
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]["context"]) + len(rows[i]["response"]))
    return [rows[i] for i in sorted(by_length[int((k + 0.5) * len(rows) / count)] for k in range(count))]


class Steps(TrainerCallback):
    """Tokens a second of each step."""

    def __init__(self) -> None:
        self.speeds: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began, self._tokens = time.perf_counter(), state.num_input_tokens_seen

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        seconds = time.perf_counter() - self._began
        self.speeds.append(int(state.num_input_tokens_seen - self._tokens) / seconds)


def ours(recipe: Recipe) -> dict[str, float]:
    """The loop of `training.qlora.train`, without what it does before and after."""
    source, name = base_of(recipe)
    tokenizer = load_tokenizer(source)
    arguments = training_arguments(recipe)
    arguments.eval_strategy = arguments.save_strategy = "no"  # type: ignore[assignment]
    arguments.load_best_model_at_end = False
    trainer = ResumableTrainer(
        model=with_new_adapter(load_base(source, recipe.quantization), recipe, name),
        args=arguments,
        train_dataset=encode_all(sample(recipe), tokenizer, recipe.max_length),
        data_collator=SupervisedCollator(tokenizer, count_shared=True),
        processing_class=tokenizer,
    )
    return _timed(trainer)


def theirs(recipe: Recipe) -> dict[str, float]:
    """TRL as its documentation starts: prompt and completion, a LoraConfig, a quantised base."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer  # type: ignore  # it loads its names when they are asked for

    from support import prompt

    source, _ = base_of(recipe)
    conversations = [
        {
            "prompt": prompt.build([prompt.Message(role="user", content=row["context"])]),
            "completion": [{"role": "assistant", "content": row["response"]}],
        }
        for row in sample(recipe)
    ]
    trainer = SFTTrainer(
        model=load_base(source, recipe.quantization),
        processing_class=load_tokenizer(source),
        train_dataset=Dataset.from_list(conversations),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", target_modules="all-linear", r=recipe.lora_r, lora_alpha=recipe.lora_alpha
        ),
        args=SFTConfig(
            output_dir=recipe.output,
            max_length=recipe.max_length,
            per_device_train_batch_size=recipe.batch_size,
            gradient_accumulation_steps=recipe.gradient_accumulation,
            max_steps=recipe.max_steps,
            use_cpu=not torch.cuda.is_available(),  # it refuses its own default of bf16 where there is no card and nobody says so
            include_num_input_tokens_seen="non_padding",
            save_strategy="no",
            report_to="none",
            seed=recipe.seed,
        ),
    )
    return _timed(trainer)


def _timed(trainer: Any) -> dict[str, float]:
    steps = Steps()
    trainer.add_callback(steps)
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    tokens = int(trainer.state.num_input_tokens_seen)
    return {
        "seconds": seconds,
        "tokens": tokens,
        "tokens/s": tokens / seconds,
        "slowest step": min(steps.speeds),
        "fastest step": max(steps.speeds),
        "seconds a step": seconds / trainer.state.global_step,
        "peak GiB": peak_memory() / 2**30,
    }


def _in_a_process(which: str, arguments: list[str]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", "--only", which, *arguments], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"{which} ended with status {done.returncode}; what it said stands above.")
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(best: dict[str, dict[str, float]]) -> str:
    lines = [f"{'':<18}{'tokens/s':>10}{'of its steps':>14}{'s a step':>10}{'peak GiB':>10}{'tokens':>9}"]
    for name, result in best.items():
        steps = f"{result['slowest step']:.0f}-{result['fastest step']:.0f}"
        lines.append(
            f"{name:<18}{result['tokens/s']:>10.1f}{steps:>14}{result['seconds a step']:>10.2f}{result['peak GiB']:>10.2f}"
            f"{result['tokens']:>9.0f}"
        )
    mine, other = best.values()
    lines.append(
        f"{'ratio':<18}{mine['tokens/s'] / other['tokens/s']:>10.2f}{'':>14}"
        f"{mine['seconds a step'] / other['seconds a step']:>10.2f}{mine['peak GiB'] / other['peak GiB']:>10.2f}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="outputs/data", help="folder that training.prepare wrote")
    parser.add_argument("--steps", type=int, default=3, help="optimizer steps of each")
    parser.add_argument("--base_model", default=EMBEDDED)
    parser.add_argument("--json", type=Path, help="where the figures are saved, for README")
    parser.add_argument("--only", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        with tempfile.TemporaryDirectory() as output:
            recipe = Recipe(
                base_model=options.base_model,
                data=options.data,
                output=output,
                max_steps=options.steps,
                logging_steps=999,
            )
            print(json.dumps((ours if options.only == "ours" else theirs)(recipe)))
        return
    arguments = ["--data", options.data, "--steps", str(options.steps), "--base_model", options.base_model]
    names = {"ours": "training.qlora", "theirs": "TRL's defaults"}
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names.values()}
    for _ in range(ROUNDS):
        for which, name in names.items():
            results[name].append(_in_a_process(which, arguments))
    best = {name: max(rounds, key=lambda result: result["tokens/s"]) for name, rounds in results.items()}
    print(f"{options.base_model} in NF4, compute in {str(compute_dtype()).removeprefix('torch.')}")
    print(table(best))
    if options.json:
        found = {"base_model": options.base_model, "steps": options.steps, "systems": best}
        measured.save(options.json, found, parser.prog)


if __name__ == "__main__":
    main()
