"""Where words come from. `start(settings)` gives the engine that the settings and the hardware call for."""

from __future__ import annotations

import importlib.util
import logging
import threading
from typing import TYPE_CHECKING

from support import prompt
from support.engines.background import BackgroundEngine
from support.engines.base import (
    Engine,
    EngineBusy,
    EngineError,
    GenerationFailed,
    GenerationParams,
    ModelUnavailable,
    Waiting,
)
from support.engines.places import Places
from support.settings import Settings

if TYPE_CHECKING:
    from support.engines.openvino import OpenVinoEngine
    from support.engines.transformers import TransformersEngine

log = logging.getLogger(__name__)

__all__ = [
    "Engine",
    "EngineBusy",
    "EngineError",
    "GenerationFailed",
    "GenerationParams",
    "ModelUnavailable",
    "Places",
    "Waiting",
    "start",
]


def start(settings: Settings, after: threading.Event | None = None) -> Engine:
    """The engine, at once; a local model loads behind it, once `after` is set (on ZeroGPU before this returns)."""
    if settings.engine == "remote" or (settings.engine == "auto" and settings.remote_addresses()):
        from support.engines.remote import RemoteEngine

        return RemoteEngine(settings)

    return BackgroundEngine(lambda: _local(settings), settings.model_id, after=after, wait=_zero_gpu())


def _local(settings: Settings) -> Engine:
    from support.engines.choice import Hardware, local_engine

    installed = importlib.util.find_spec("openvino_genai") is not None
    if local_engine(settings, Hardware.detect(), openvino=installed) == "openvino":
        if not installed:
            raise ModelUnavailable("OpenVINO is needed and not installed; run `pip install -r requirements-cpu.txt`.")
        from support.engines import openvino

        try:
            return _warm(openvino.load(settings))
        except Exception as error:
            if settings.engine == "openvino" or settings.model_id:
                raise
            reason = error if isinstance(error, EngineError) else type(error).__name__
            log.warning("OpenVINO could not load the model (%s); transformers takes its place", reason)

    from support.engines.transformers import TransformersEngine, load  # torch takes seconds to import

    engine = TransformersEngine(load(settings), settings.context_tokens)
    return engine if _zero_gpu() else _warm(engine)  # ZeroGPU has no card before someone asks


def _warm(engine: OpenVinoEngine | TransformersEngine) -> Engine:
    """The engine, once it has written a word: what is compiled at first use is, and the words that every chat begins with
    have been read, which engines that keep what they read need not read again."""
    hello = prompt.build([{"role": "user", "content": "Hello."}])
    try:
        for _ in engine.stream(hello, GenerationParams(max_new_tokens=1), threading.Event()):
            pass
    except EngineError:
        engine.close()  # its memory is for the one that takes its place
        raise
    return engine


def _zero_gpu() -> bool:
    from spaces.config import Config

    return Config.zero_gpu
