"""Train a LoRA adapter over a base model in NF4 (QLoRA, arXiv 2305.14314). Reads from top to bottom.

    python -m training.prepare --out outputs/data --rows 1000
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
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    EarlyStoppingCallback,
    GenerationConfig,
    HfArgumentParser,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import DistributedLengthGroupedSampler

from training import TrainingError, plan
from training.encoding import IGNORED, SupervisedCollator, encode_all, read_split

EMBEDDED = "embedded"
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets")
# Of a logit. Those near 30 are 0.016 apart in fp16 and 0.125 in bf16, and sums in another order move them by a few steps; so
# a difference counts where it is also more than a tenth of what the adapter does at all.
RELOAD_TOLERANCE = 0.05
RELOAD_SHARE = 0.1
RUN = "run.json"
UNFINISHED = "unfinished.json"  # beside the checkpoints: which run they are of

log = logging.getLogger(__name__)


# --- The recipe ---


def _setting(default: Any, about: str) -> Any:
    return field(default=default, metadata={"help": about})


@dataclass
class Recipe:
    """Every setting of a run. A recipe file (yaml) names the ones that it changes; the command line has the last word.

    Raises:
        TrainingError: a value cannot be used.
    """

    base_model: str = _setting(
        "meta-llama/Llama-2-7b-chat-hf", "Hub id, folder, or `embedded`: the demonstration model"
    )
    base_model_name: str = _setting("", "Hub id that the adapter names as its base, where base_model is a folder")
    data: str = _setting("outputs/data", "folder that training.prepare wrote")
    output: str = _setting("outputs/adapter", "folder for the adapter and run.json")
    publish_to: str = _setting("", "repo on the Hub for training.publish; made before training begins, private")
    licence: str = _setting("", "the Hub's id of a licence, for the card of a base model that card.py does not know")
    quantization: str = _setting("nf4", "of the base model: nf4 or none")
    max_length: int = _setting(512, "most tokens of prompt and response together")
    epochs: float = _setting(1.0, "passes over the training rows")
    max_steps: int = _setting(-1, "optimizer steps; above 0 it takes the place of epochs")
    batch_size: int = _setting(4, "rows that go through the model at once")
    gradient_accumulation: int = _setting(4, "batches for one optimizer step; LoRA likes fewer than 32 rows a step")
    learning_rate: float = _setting(2e-4, "its peak; falls along a cosine after the warmup")
    warmup: float = _setting(0.05, "share of the steps over which the learning rate rises")
    lora_r: int = _setting(16, "rank of the adapter. 16 is the highest that vLLM serves without a flag")
    lora_alpha: int = _setting(32, "scale of the adapter, over its rank")
    lora_dropout: float = _setting(0.05, "share of the adapter's inputs left out in training")
    rslora: bool = _setting(False, "scale by the root of the rank, so that high ranks learn as fast (arXiv 2312.03732)")
    neftune_alpha: float = _setting(
        0.0, "noise on the embeddings (arXiv 2310.05914); 5 is usual, answers get longer; 0: none"
    )
    activation_checkpointing: bool = _setting(
        True, "compute activations twice instead of keeping them: slower, less memory"
    )
    logging_steps: int = _setting(5, "optimizer steps between two logged losses")
    evaluations: int = _setting(
        5, "how often the held-out loss is measured and a checkpoint written, over the whole run"
    )
    patience: int = _setting(2, "evaluations without a better held-out loss before the run stops; the best one is kept")
    seed: int = _setting(0, "of the adapter's first weights, the order of rows, and dropout")

    def __post_init__(self) -> None:
        if self.quantization not in ("nf4", "none"):
            raise TrainingError(f"quantization must be nf4 or none; it is {self.quantization!r}.")
        for name in (
            "max_length",
            "batch_size",
            "gradient_accumulation",
            "lora_r",
            "lora_alpha",
            "logging_steps",
            "evaluations",
            "patience",
        ):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1; it is {getattr(self, name)}.")
        for name in ("epochs", "learning_rate"):
            if getattr(self, name) <= 0:
                raise TrainingError(f"{name} must be above 0; it is {getattr(self, name)}.")
        if self.neftune_alpha < 0:
            raise TrainingError(f"neftune_alpha must not be below 0; it is {self.neftune_alpha}.")
        for name in ("warmup", "lora_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 0 and below 1; it is {getattr(self, name)}.")


def read_recipe(arguments: Sequence[str]) -> Recipe:
    """The recipe that `--config FILE` and the other arguments describe.

    Raises:
        TrainingError: no such file, a setting that does not exist, or a value that cannot be used.
    """
    recipe_class: Any = Recipe  # the parser's own type for it is narrower than what it takes
    parser = HfArgumentParser(
        recipe_class, allow_abbrev=False, prog="python -m training.qlora", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--config", type=Path, help="recipe file, such as training/recipes/seed.yaml")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in `output`")
    config = parser.parse_known_args(arguments)[0].config
    if config:
        parser.set_defaults(**_recipe_file(config))
    recipe, _, unknown = parser.parse_args_into_dataclasses(
        args=list(arguments), return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        raise TrainingError(f"There is no setting {unknown[0]}; `python -m training.qlora --help` lists them.")
    return recipe


def _recipe_file(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise TrainingError(
            f"The recipe {path} cannot be read ({error}); see training/recipes/ for some that can."
        ) from None
    if not isinstance(values, dict):
        raise TrainingError(f"The recipe {path} must hold lines of `setting: value`.")
    unknown = sorted(set(values) - set(Recipe.__dataclass_fields__))
    if unknown:
        raise TrainingError(f"The recipe {path} has no such setting: {', '.join(map(str, unknown))}. See --help.")
    # As text, every value goes through the same parsing as on the command line: yaml reads 2e-4 as a string.
    return {name: str(value) for name, value in values.items() if value is not None}


# --- The model ---


def compute_dtype() -> torch.dtype:
    """fp16 on a T4 and older, bf16 on newer cards, fp32 on a CPU.

    Not `torch.cuda.is_bf16_supported()`: it says yes on a T4, by emulation, and bitsandbytes' fast 4-bit path there is
    fp16 only.
    """
    if not torch.cuda.is_available():
        return torch.float32
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
    """The base model's tokenizer, with a padding token that is already in its vocabulary: a new one would resize it.

    Raises:
        TrainingError: it cannot be loaded, or has no chat template.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise TrainingError(_not_loaded(source, error)) from error
    if not tokenizer.chat_template:
        raise TrainingError(f"{source} has no chat template; set base_model to an instruct or chat model.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


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
    model.peft_config["default"].base_model_name_or_path = name  # never a folder of the machine that trained it
    return model


def _not_loaded(source: str, error: Exception) -> str:
    return (
        f"The base model {source} could not be loaded ({type(error).__name__}); check base_model, and for a gated "
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
        TrainingError: the data, the model or the machine does not fit the recipe; the output holds an unfinished run of
            this or another recipe; or the saved adapter, loaded afresh, does not compute what the trained one does.
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
        checkpoint = _checkpoint(recipe, {split: digest for split, (_, digest) in splits.items()}, resume)
    # Not evaluate() before train(): that leaves several processes unsynchronised.
    arguments.eval_on_start = checkpoint is None
    encoded = {split: encode_all(rows, tokenizer, recipe.max_length) for split, (rows, _) in splits.items()}

    model = with_new_adapter(load_base(source, recipe.quantization), recipe, name)
    trainer = ResumableTrainer(
        model=model,
        args=arguments,
        train_dataset=encoded["train"],
        eval_dataset=encoded["validation"],
        data_collator=SupervisedCollator(tokenizer),
        processing_class=tokenizer,
        callbacks=_callbacks(recipe),
    )
    seen_before = _tokens_seen(checkpoint)
    loop_started = time.perf_counter()
    result = trainer.train(resume_from_checkpoint=checkpoint)
    loop_seconds = time.perf_counter() - loop_started
    history = {key: _history(trainer, key) for key in ("loss", "eval_loss")}
    after = trainer.evaluate()["eval_loss"]  # of the best adapter
    if not math.isfinite(after):
        raise TrainingError("The loss is no number any more; train again with a lower learning_rate.")

    run: dict[str, Any] = {
        "base_model": name,
        "recipe": _shareable(recipe),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "compute_dtype": str(compute_dtype()).removeprefix("torch."),
        "data": _data_facts(recipe, splits, encoded),
        "steps": result.global_step,
        "losses": {
            "validation_before": history["eval_loss"][0]["loss"],
            "validation_after": round(after, 4),
            "train": history["loss"],
            "validation": history["eval_loss"],
        },
        "trainable_parameters": model.num_parameters(only_trainable=True),
        "resumed": checkpoint is not None,  # then the two below are of the part after it
        "training_seconds": round(loop_seconds, 1),
        "tokens_per_second": round((trainer.state.num_input_tokens_seen - seen_before) / loop_seconds, 1),
        "peak_memory_gib": round(peak_memory() / 2**30, 2),
        "planned_memory_gib": round(sum(planned.values()), 2),
    }
    if not trainer.is_world_process_zero():
        return run

    # Out of the loop's mixed precision, as it will be loaded.
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
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
    (output / RUN).write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    _plot(run["losses"], output / "losses.png")
    if not same(**run["reload"]):
        raise TrainingError(
            f"The adapter in {output}, loaded afresh, differs from the trained one by up to "
            f"{run['reload']['max_logit_difference']:.3f} in its logits; do not publish it. Compare the versions in "
            "run.json with requirements.txt, and train again."
        )
    for folder in _checkpoints(output):  # the run is whole: they were for its continuing
        shutil.rmtree(folder)
    (output / UNFINISHED).unlink()
    return run


def _checkpoint(recipe: Recipe, data: dict[str, str], resume: bool) -> str | None:
    """The folder to go on from, or None to begin. Notes in the output what is being trained, so that `--resume` can tell.

    Raises:
        TrainingError: going on would mix two runs, or beginning would write over an unfinished one.
    """
    output, note = Path(recipe.output), Path(recipe.output) / UNFINISHED
    settings = {**_shareable(recipe), "data": data}
    if resume and recipe.publish_to and not _checkpoints(output):
        from training.publish import fetch_checkpoint  # which needs this file

        fetch_checkpoint(recipe.publish_to, output, settings)
    if note.exists() and (checkpoints := _checkpoints(output)):
        if not resume:
            raise TrainingError(f"{output} holds an unfinished run: add --resume, or choose another --output.")
        if other := differing(json.loads(note.read_text(encoding="utf-8")), settings):
            raise TrainingError(
                f"The unfinished run in {output} has another {other}; use the same, or another --output."
            )
        log.info("Going on from %s.", checkpoints[-1].name)
        return str(checkpoints[-1])
    if resume:
        log.info("%s holds no checkpoint; beginning.", output)
    output.mkdir(parents=True, exist_ok=True)
    (output / RUN).unlink(missing_ok=True)  # of an adapter that will be written over
    note.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return None


def differing(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Names of the settings that differ, as words; "" where none does."""
    return ", ".join(sorted(key for key in {*one, *other} if one.get(key) != other.get(key)))


def _checkpoints(output: Path) -> list[Path]:
    """Whole ones, the oldest first: the Trainer writes trainer_state.json last, so a kill while saving leaves none."""
    states = output.glob("checkpoint-*/trainer_state.json")
    return sorted((state.parent for state in states), key=lambda folder: int(folder.name.split("-")[1]))


def training_arguments(recipe: Recipe) -> TrainingArguments:
    """The recipe in the Trainer's words."""
    dtype = compute_dtype()
    cuda = dtype is not torch.float32
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


class ResumableTrainer(Trainer):
    """Orders rows by seed and epoch alone.

    transformers draws its length groups from the global generator. What state that has when an epoch begins depends on the
    dropout before, which a run that goes on in the middle of an epoch has not drawn: it would see other batches.
    """

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


def _history(trainer: Trainer, key: str) -> list[dict[str, Any]]:
    return [
        {"step": entry["step"], "loss": round(float(entry[key]), 4)}
        for entry in trainer.state.log_history
        if key in entry
    ]


def _tokens_seen(checkpoint: str | None) -> float:
    """Tokens without padding that a run had trained on when it wrote `checkpoint`."""
    if not checkpoint:
        return 0
    return json.loads((Path(checkpoint) / "trainer_state.json").read_text(encoding="utf-8"))["num_input_tokens_seen"]


def peak_memory() -> int:
    """Bytes: of the card where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows counts it itself
        return psutil.Process().memory_info().peak_wset  # type: ignore[attr-defined]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _plot(losses: dict[str, Any], path: Path) -> None:
    """Loss on the rows that are trained on and on those held out, by optimizer step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, style in (("train", "-"), ("validation", "o--")):
        axes.plot([e["step"] for e in losses[name]], [e["loss"] for e in losses[name]], style, label=name)
    axes.set(xlabel="optimizer step", ylabel="loss per supervised token")
    axes.legend()
    figure.savefig(path, dpi=110)


def _shareable(recipe: Recipe) -> dict[str, Any]:
    """The settings without this machine's folders: run.json is published."""
    values = asdict(recipe)
    for name in ("data", "output", "publish_to", "licence", "base_model_name"):
        del values[name]
    if Path(recipe.base_model).is_dir():
        values["base_model"] = recipe.base_model_name or Path(recipe.base_model).name
    return values


def _data_facts(recipe: Recipe, splits: dict[str, Any], encoded: dict[str, Dataset]) -> dict[str, Any]:
    """What was trained on: training.prepare's report where there is one, hashes and token counts as read now."""
    report = Path(recipe.data) / "report.json"
    prepared = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    facts = {key: prepared.get(key) for key in ("source", "source_sha256", "rows_read", "dropped", "seed")}
    for split, (rows, digest) in splits.items():
        lengths = [len(ids) for ids in encoded[split]["input_ids"]]
        supervised = sum(label != IGNORED for labels in encoded[split]["labels"] for label in labels)
        facts[split] = {"rows": len(rows), "sha256": digest, "tokens": sum(lengths), "supervised_tokens": supervised}
    return facts


def main() -> None:
    from training import publish  # which needs this file

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        recipe = read_recipe(sys.argv[1:])
        if recipe.publish_to:
            publish.demand_repo(recipe.publish_to, base_of(recipe)[1], recipe.licence)
        run = train(recipe, resume="--resume" in sys.argv)
        first = "reload" in run  # of several processes, the one that saved
        proof = (
            publish.publish(Path(recipe.output), recipe.publish_to, licence=recipe.licence)
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
