"""What is there and what to do about it, a line a part, for whoever runs a copy: the page's "About the model".

    checks(settings, engine)  ->  [Check("access", False, "... cannot be fetched.", "... set the secret HF_TOKEN ...")]

It may ask the Hub, which takes seconds. Tells no token, and knows nothing about pages or messages.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from huggingface_hub import HfApi, constants, hf_hub_download

from support import health
from support.engines import Engine, embedded
from support.engines.choice import Hardware, ModelChoice, choose
from support.engines.problems import explain
from support.settings import Settings

HUB_TIMEOUT_S = 5
BYTES_PER_WEIGHT = {"nf4": 0.6, "bf16": 2, "none": 4}
BESIDE_WEIGHTS = 1.2e9  # cache of keys and values at 4,096 tokens, activations, CUDA's own
FULL_SIZE = 1e9  # weights above which a model without a card is too slow to talk with
NO_CARD = "For a full model, choose ZeroGPU, a T4 or an L4 in the Space's settings, or set REMOTE_BASE_URL."


@dataclass(frozen=True)
class Check:
    """One part: its name, whether it is in order, what was found, and what to do ("" where nothing is)."""

    name: str
    ok: bool
    found: str
    fix: str = ""


def checks(settings: Settings, engine: Engine) -> list[Check]:
    """Every part of a copy, the ones that answer first."""
    found = [_answers(engine), *_safety()]
    if engine.describe()["device"] == "remote":
        return found
    hardware = Hardware.detect()
    choice = choose(settings, hardware)
    return [*found, *_model(choice, hardware, settings)]


def _answers(engine: Engine) -> Check:
    model = engine.describe()
    if model["status"] == "unavailable":
        return Check("model", False, "No model answers: the page offers its tools and lines alone.", model["problem"])
    if model["status"] == "loading":
        return Check("model", True, f"{model['model'] or 'The model'} is loading.")
    adapter = f" with the adapter {model['adapter']}" if model["adapter"] else ", without an adapter,"
    return Check("model", True, f"{model['model']}{adapter} answers in {model['quantization']} on {model['device']}.")


def _safety() -> Iterator[Check]:
    wrong = health.problems()
    for part, problem in wrong.items():
        yield Check(part, False, problem, "Take the file from the repository again, or correct it.")
    if not wrong:
        yield Check("safety", True, "Screening, gate, replies and lines work.")


def _model(choice: ModelChoice, hardware: Hardware, settings: Settings) -> Iterator[Check]:
    weights, access = _weights_and_access(choice, settings)
    yield access
    if choice.adapter:
        yield _adapter(choice, settings)
    yield _card(hardware, weights)
    yield _memory(choice, hardware, weights)
    yield _disk(weights, settings)


def _weights_and_access(choice: ModelChoice, settings: Settings) -> tuple[float, Check]:
    """Number of weights (0 where unknown), and whether the model may be fetched."""
    if choice.embedded and embedded.wheel_file():
        return embedded.WEIGHTS, Check("access", True, "The embedded model is installed and needs no token.")
    if Path(choice.model).expanduser().exists():
        return 0, Check("access", True, f"{choice.model} is on this machine.")
    has_token = bool(settings.hf_token)
    hub = HfApi(token=settings.hf_token or None)
    try:
        info = hub.model_info(choice.model, timeout=HUB_TIMEOUT_S)
        if info.gated or info.private:
            hub.auth_check(choice.model)
    except Exception as error:  # refused, missing or out of reach: `explain` tells them apart
        fix = explain(error, choice, has_token=has_token)
        return 0, Check("access", False, f"{choice.model} cannot be fetched.", fix)
    weights = info.safetensors.total if info.safetensors else 0
    return weights, Check("access", True, f"{choice.model} may be fetched{' with HF_TOKEN' if has_token else ''}.")


def _adapter(choice: ModelChoice, settings: Settings) -> Check:
    try:
        file = Path(choice.adapter) / "adapter_config.json"
        if not file.exists():
            file = Path(hf_hub_download(choice.adapter, "adapter_config.json", token=settings.hf_token or None))
        base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except Exception:  # the Hub's errors, a broken file, a file of something else
        fix = "Check ADAPTER_ID, and HF_TOKEN if it is private."
        return Check("adapter", False, f"{choice.adapter} holds no adapter that can be read.", fix)
    if base == choice.model:
        return Check("adapter", True, f"{choice.adapter} was trained on {base}.")
    return Check("adapter", False, f"{choice.adapter} was trained on {base}.", f"Set MODEL_ID to {base}.")


def _card(hardware: Hardware, weights: float) -> Check:
    if hardware.zero_gpu:
        return Check("accelerator", True, "ZeroGPU gives a card for the length of each reply.")
    if hardware.cuda:
        import torch

        return Check("accelerator", True, f"{torch.cuda.get_device_name()} is there.")
    if 0 < weights < FULL_SIZE:
        return Check("accelerator", True, f"There is no card; a model of this size does without. {NO_CARD}")
    return Check("accelerator", False, "There is no card.", NO_CARD)


def _memory(choice: ModelChoice, hardware: Hardware, weights: float) -> Check:
    if hardware.zero_gpu:
        return Check("memory", True, "A ZeroGPU card has 48 GB.")
    if hardware.cuda:
        import torch

        room, where = torch.cuda.get_device_properties(0).total_memory, "The card"
    else:
        room, where = psutil.virtual_memory().total, "This machine"
    needed = weights * BYTES_PER_WEIGHT[choice.quantization] + BESIDE_WEIGHTS
    if not weights:
        return Check("memory", True, f"{where} has {_gb(room)}.")
    found = f"{where} has {_gb(room)}; this model needs about {_gb(needed)}."
    fix = "" if needed <= room else "Set QUANTIZATION=nf4, or choose larger hardware."
    return Check("memory", needed <= room, found, fix)


def _disk(weights: float, settings: Settings) -> Check:
    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free, needed = shutil.disk_usage(folder).free, weights * 2
    found = f"{_gb(free)} are free" + (f"; the files of this model take {_gb(needed)}." if weights else ".")
    return Check(
        "disk", free >= needed, found, "" if free >= needed else "Choose a larger disk, or a smaller MODEL_ID."
    )


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
