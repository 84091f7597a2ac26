"""Train a LoRA adapter over a base model in NF4 (QLoRA, arXiv 2305.14314). Reads from top to bottom.

    python -m training.prepare --out outputs/data
    python -m training.qlora --config training/recipes/seed.yaml [--learning_rate 1e-4 ...] [--resume]

Writes to the recipe's `output`: the adapter, the base model's config.json (so that `AutoConfig` finds one), its
tokenizer, losses.png, and run.json: settings, versions, data, losses, speed, memory. The held-out loss is measured some
times in a run; it stops where that gets worse, and the best adapter is kept. Ends by loading the adapter afresh, as the
app does, and comparing. Killed on the way, it goes on with `--resume`.

Knows nothing about pages, screening or the Hub. It is written for one card: on a machine with several it takes the
first. On two T4 without a launcher the Trainer doubles the batch and the logged loss, and two processes were slower
than one card (unsloth's README). A launcher (accelerate launch, torchrun) is respected.
"""

from __future__ import annotations

import os

if "LOCAL_RANK" not in os.environ:  # set by torchrun and accelerate
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # read when torch is imported, so it stands above that import

import contextlib
import gc
import json
import logging
import math
import random
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.helpers import disable_input_dtype_casting
from peft.tuners.lora import LoraLayer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    EarlyStoppingCallback,
    GenerationConfig,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import DistributedLengthGroupedSampler

from support import measured
from training import TrainingError, checkpoints, named, plan, record
from training.dropout import PoissonDropout
from training.encoding import SupervisedCollator, encode_all, read_split, with_padding
from training.recipe import EMBEDDED, Recipe, read_recipe
from training.shared_prompt import share_prompt

# Of a logit. Those near 30 are 0.016 apart in fp16 and 0.125 in bf16, and sums in another order move them by a few steps; so
# a difference counts where it is also more than a tenth of what the adapter does at all.
RELOAD_TOLERANCE = 0.05
RELOAD_SHARE = 0.1

# --- The model ---


def compute_dtype() -> torch.dtype:
    """fp16 on a T4 and older, bf16 on newer cards and on CPUs with instructions for it (twice as fast there), else fp32.

    Not `torch.cuda.is_bf16_supported()`: it says yes on a T4, by emulation, and bitsandbytes' fast 4-bit path there is
    fp16 only.
    """
    if not torch.cuda.is_available():
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16


def base_of(recipe: Recipe) -> tuple[str, str]:
    """Where the base model is loaded from, and the name under which others find it."""
    if recipe.base_model != EMBEDDED:
        if Path(recipe.base_model).is_dir() and not recipe.base_model_name:
            raise TrainingError(
                f"{recipe.base_model} is a folder of this machine: name the model that others find, with --base_model_name."
            )
        return recipe.base_model, recipe.base_model_name or recipe.base_model
    from support.engines import ModelUnavailable, embedded
    from support.settings import Settings

    try:
        return str(embedded.folder(Settings.from_env().cache_folder())), embedded.HUB_ID
    except ModelUnavailable as error:
        raise TrainingError(str(error)) from error


def load_tokenizer(source: str) -> Any:
    """The base model's tokenizer, padding on the right.

    Raises:
        TrainingError: it cannot be loaded, or has no chat template.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise TrainingError(_not_loaded(source, error)) from error
    if not tokenizer.chat_template:
        raise TrainingError(f"{source} has no chat template; set base_model to an instruct or chat model.")
    return with_padding(tokenizer, "right")


def quantization_config(quantization: str) -> BitsAndBytesConfig | None:
    """NF4 with double quantisation (QLoRA, arXiv 2305.14314); None for "none"."""
    if quantization != "nf4":
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype(),
    )


def load_base(source: str, quantization: str) -> Any:
    """The frozen base model, in the precision in which the app serves it; so its norms are not cast to fp32 as
    `peft.prepare_model_for_kbit_training` would (Llama computes them in fp32 anyway).

    Raises:
        TrainingError: it cannot be loaded.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=compute_dtype(),
            device_map={"": int(os.environ.get("LOCAL_RANK", 0))} if torch.cuda.is_available() else None,
            quantization_config=quantization_config(quantization),
        )
    except (OSError, ValueError) as error:
        raise TrainingError(_not_loaded(source, error)) from error
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    share_prompt(model)
    for module in model.modules():
        # On CPUs with AVX512-BF16 bitsandbytes repacks the weights at the first evaluation, and no gradient passes them
        # afterwards, silently (Linear4bit.forward, 0.50.2).
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    return model


def with_new_adapter(base: Any, recipe: Recipe, name: str) -> Any:
    """`base` with LoRA on all linear layers: attention alone learns less at equal size ("LoRA Without Regret")."""
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        target_modules="all-linear",
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        use_rslora=recipe.rslora,
    )
    model = get_peft_model(base, lora)
    if recipe.lora_dropout and not torch.cuda.is_available():
        for module in model.modules():
            if isinstance(module, LoraLayer):
                module.lora_dropout["default"] = PoissonDropout(recipe.lora_dropout)
    model.peft_config["default"].base_model_name_or_path = name  # never a folder of the machine that trained it
    return model


def _not_loaded(source: str, error: Exception) -> str:
    return (
        f"The base model {source} could not be loaded ({named(error)}); check base_model, and for a gated "
        "model such as Llama 2 accept its licence on the Hub and set HF_TOKEN."
    )


# --- The run ---


def train(recipe: Recipe, resume: bool = False) -> dict[str, Any]:
    """Train, save, reload, compare.

    Args:
        recipe: the settings.
        resume: go on from the last checkpoint in the recipe's output, to the result that the run would have had. Without a
            checkpoint there, it begins.

    Returns:
        what run.json holds.

    Raises:
        TrainingError: the data, the model or the machine does not fit the recipe; the output holds a finished run, or an
            unfinished one of this or another recipe; or the saved adapter, loaded afresh, does not compute what the
            trained one does.
    """
    if torch.cuda.device_count() > 1 and "LOCAL_RANK" not in os.environ:
        raise TrainingError("Several cards are visible and no launcher is used; set CUDA_VISIBLE_DEVICES=0.")
    started = time.perf_counter()
    set_seed(recipe.seed)
    source, name = base_of(recipe)
    output = Path(recipe.output)
    where, room, cpu = plan.here()
    planned = plan.demand_room(plan.shape_of(source), recipe, room, where, cpu)
    tokenizer = load_tokenizer(source)
    splits = {split: read_split(Path(recipe.data), split) for split in ("train", "validation")}
    arguments = training_arguments(recipe)
    with arguments.main_process_first(desc="the notes about this run"):  # it writes them, the others then find them
        checkpoint = checkpoints.begin(recipe, {split: digest for split, (_, digest) in splits.items()}, resume)
    # Not evaluate() before train(): that leaves several processes unsynchronised.
    arguments.eval_on_start = checkpoint is None
    used = {"train": drawn(splits["train"][0], recipe), "validation": splits["validation"][0]}
    longest = {"train": recipe.max_length, "validation": recipe.validation_length}
    encoded = {split: encode_all(rows, tokenizer, longest[split]) for split, rows in used.items()}

    model = with_new_adapter(load_base(source, recipe.quantization), recipe, name)
    stopwatch = Stopwatch()
    trainer = ResumableTrainer(
        model=model,
        args=arguments,
        train_dataset=encoded["train"],
        eval_dataset=encoded["validation"],
        data_collator=SupervisedCollator(tokenizer, count_shared=True),
        processing_class=tokenizer,
        callbacks=[stopwatch, *_callbacks(recipe)],
    )
    seen_before = checkpoints.tokens_seen(checkpoint)
    if checkpoint and checkpoints.ended(checkpoint):
        trainer.take_best(checkpoint)
    else:
        trainer.train(resume_from_checkpoint=checkpoint)
    tokens = trainer.state.num_input_tokens_seen - seen_before
    history = {key: record.history(trainer.state.log_history, key) for key in ("loss", "eval_loss")}
    after = trainer.evaluate()["eval_loss"]  # of the best adapter
    if not math.isfinite(after):
        raise TrainingError("The loss is no number any more; train again with a lower learning_rate.")

    run: dict[str, Any] = {
        "base_model": name,
        "recipe": recipe.shareable(),
        "versions": record.versions(),
        "device": measured.device(),
        "compute_dtype": str(compute_dtype()).removeprefix("torch."),
        "measured": record.made_by(),
        "licence": recipe.licence,
        "data": record.data_facts(recipe, {split: digest for split, (_, digest) in splits.items()}, used, encoded),
        "steps": trainer.state.global_step,
        "processes": arguments.world_size,
        "losses": {
            "validation_before": history["eval_loss"][0]["loss"],
            "validation_after": round(after, 4),
            "train": history["loss"],
            "validation": history["eval_loss"],
        },
        "trainable_parameters": model.num_parameters(only_trainable=True),
        "resumed": checkpoint is not None,  # then the three below are of the part after it
        "training_seconds": round(stopwatch.seconds, 1),
        "evaluation_seconds": round(trainer.evaluation_seconds, 1),
        "tokens_per_second": round(tokens / stopwatch.seconds, 1) if stopwatch.seconds else 0.0,
        "peak_memory_gib": round(record.peak_memory() / 2**30, 2),
        "planned_memory_gib": round(sum(planned.values()), 2),
    }
    if not trainer.is_world_process_zero():
        return run

    # Out of the loop's mixed precision, as it will be loaded.
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    with checkpoints.saving(output):
        save(model, tokenizer, source, output)
    run["adapter_bytes"] = (output / "adapter_model.safetensors").stat().st_size
    probe = encoded["validation"][0]["input_ids"]
    trained, plain = _logits(model, probe), _logits_without_adapter(model, probe)
    del model, trainer
    gc.collect()
    torch.cuda.empty_cache()  # a T4 does not hold the model twice
    reloaded = _logits(reload(source, recipe.quantization, output), probe)
    run["reload"] = {
        "max_logit_difference": (trained - reloaded).abs().max().item(),
        "adapter_effect": (trained - plain).abs().max().item(),
    }
    run["seconds"] = round(time.perf_counter() - started, 1)
    (output / record.RUN).write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    record.plot(run["losses"], output / "losses.png")
    if not same(**run["reload"]):
        raise TrainingError(
            f"The adapter in {output}, loaded afresh, differs from the trained one by up to "
            f"{run['reload']['max_logit_difference']:.3f} in its logits; do not publish it. Compare the versions in "
            "run.json with requirements.txt, and train again."
        )
    checkpoints.finish(output)
    return run


def drawn(rows: list[dict[str, str]], recipe: Recipe) -> list[dict[str, str]]:
    """As many rows as the recipe asks for, by chance and in their old order; all where there are no more."""
    if not recipe.rows or recipe.rows >= len(rows):
        return rows
    return [rows[i] for i in sorted(random.Random(recipe.seed).sample(range(len(rows)), recipe.rows))]


def training_arguments(recipe: Recipe) -> TrainingArguments:
    """The recipe in the Trainer's words."""
    dtype = compute_dtype()
    cuda = torch.cuda.is_available()
    share = min(0.999, 1 / recipe.evaluations)  # of all steps, between two evaluations; 1 would mean one step
    return TrainingArguments(
        output_dir=recipe.output,
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=recipe.warmup,  # below 1 it is a share of all steps
        optim="paged_adamw_8bit" if cuda else "adamw_torch",
        fp16=dtype is torch.float16,
        bf16=dtype is torch.bfloat16,
        use_cpu=not cuda,
        ddp_backend="gloo" if not cuda and "LOCAL_RANK" in os.environ else None,
        ddp_find_unused_parameters=False,
        activation_checkpointing=recipe.activation_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},  # gradients pass although the base's inputs need none
        include_num_input_tokens_seen="non_padding",
        prediction_loss_only=True,
        label_names=["labels"],
        logging_steps=recipe.logging_steps,
        eval_strategy="steps",
        eval_steps=share,
        save_strategy="steps",
        save_steps=share,
        save_total_limit=2,  # the best and the last
        load_best_model_at_end=True,
        restore_callback_states_from_checkpoint=True,  # else patience begins anew
        neftune_noise_alpha=recipe.neftune_alpha or None,
        report_to="none",
        seed=recipe.seed,
    )


def _callbacks(recipe: Recipe) -> list[TrainerCallback]:
    from training.publish import KeepOnHub  # which needs this file

    keep = [KeepOnHub(recipe.publish_to)] if recipe.publish_to else []
    return [EarlyStoppingCallback(recipe.patience), *keep]


class Stopwatch(TrainerCallback):
    """Seconds of the optimizer steps alone: evaluations and checkpoints come between them."""

    seconds = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # else what the card still computes would count as evaluation
        self.seconds += time.perf_counter() - self._began


class ResumableTrainer(Trainer):
    """Orders rows by seed and epoch alone, leaves the adapter's inputs in the precision of the base, and times evaluations.

    transformers draws its length groups from the global generator. What state that has when an epoch begins depends on the
    dropout before, which a run that goes on in the middle of an epoch has not drawn: it would see other batches.

    PEFT casts these inputs to fp32 unless autocast is on, but asks about CUDA's only; on a CPU autocast casts them back.
    """

    evaluation_seconds = 0.0

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        started = time.perf_counter()
        found = super().evaluate(*arguments, **options)
        self.evaluation_seconds += time.perf_counter() - started
        return found

    def train(self, *arguments: Any, **options: Any) -> Any:
        with disable_input_dtype_casting(self.model):  # type: ignore[arg-type]
            return super().train(*arguments, **options)

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        with checkpoints.saving(Path(str(self.args.output_dir))):
            super()._save_checkpoint(*arguments, **options)

    def take_best(self, checkpoint: str) -> None:
        """The end of a run that was over when it wrote `checkpoint`.

        `train` would go on: it forgets that it had stopped, and looks at the number of steps only after one more.
        """
        state = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
        state.best_model_checkpoint = str(checkpoints.best_of(checkpoint))
        self.state = state
        self._load_best_model()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        group = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        lengths = [len(ids) for ids in rows["input_ids"]]
        # Rows of like length share a batch: 1.01 times the compute of no padding at all, where random order costs 1.46
        # times with batches of 4 (measured on 1000 rows of the dataset).
        # One replica: accelerate deals the batches out to the processes.
        return DistributedLengthGroupedSampler(
            group, rows, num_replicas=1, rank=0, seed=self.args.seed, lengths=lengths
        )


def save(model: Any, tokenizer: Any, source: str, output: Path) -> None:
    """Adapter, tokenizer, and the base's config.json without any quantisation: whoever loads it chooses their own."""
    model.save_pretrained(output, save_embedding_layers=False)
    (output / "README.md").unlink(
        missing_ok=True
    )  # PEFT's card names this machine's folders; training.card writes ours
    tokenizer.save_pretrained(output)
    AutoConfig.from_pretrained(source).save_pretrained(output)
    with contextlib.suppress(OSError):  # not every base has one
        GenerationConfig.from_pretrained(source).save_pretrained(output)


def reload(source: str, quantization: str, adapter: Path) -> Any:
    """A fresh base model with the saved adapter over it, as `support/engines/transformers.py` loads them.

    Raises:
        TrainingError: weights are missing in the saved adapter.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")  # PEFT would go on, half-loaded
        try:
            return PeftModel.from_pretrained(load_base(source, quantization), str(adapter))
        except UserWarning as missing:
            raise TrainingError(f"The adapter in {adapter} lacks weights ({missing}); train again.") from None


def same(max_logit_difference: float, adapter_effect: float) -> bool:
    """Whether two loaded adapters compute the same, as far as the precision tells."""
    return max_logit_difference <= max(RELOAD_TOLERANCE, RELOAD_SHARE * adapter_effect)


def _logits(model: Any, ids: list[int]) -> torch.Tensor:
    """Logits of one sequence, (tokens, vocabulary), fp32 on the CPU; dropout off."""
    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0].float().cpu()


def _logits_without_adapter(model: Any, ids: list[int]) -> torch.Tensor:
    with model.disable_adapter():
        return _logits(model, ids)


def main() -> None:
    from training import publish  # which needs this file

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # the Hub client tells each request
    try:
        recipe = read_recipe(sys.argv[1:])
        if recipe.publish_to:
            publish.demand_repo(recipe.publish_to, base_of(recipe)[1], recipe.licence)
        run = train(recipe, resume="--resume" in sys.argv)
        first = "reload" in run  # of several processes, the one that saved
        proof = (
            publish.publish(Path(recipe.output), recipe.publish_to, licence=recipe.licence, keep_checkpoint=True)
            if recipe.publish_to and first
            else None
        )
    except TrainingError as error:
        raise SystemExit(str(error)) from None
    losses = run["losses"]
    print(f"Validation loss {losses['validation_before']} -> {losses['validation_after']}.")
    if "reload" in run:
        check = run["reload"]
        print(
            f"Reloaded: logits differ by {check['max_logit_difference']:.2g} at most; "
            f"the adapter moves them by up to {check['adapter_effect']:.2g}."
        )
        print(f"Wrote {recipe.output}. Next: python -m training.publish {recipe.output} --repo NAME")
    if proof:
        print(publish.summary(proof))


if __name__ == "__main__":
    main()
