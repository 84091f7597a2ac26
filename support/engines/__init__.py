"""Where words come from. `start(settings)` gives the engine that the settings and the hardware call for."""

from __future__ import annotations

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


def start(settings: Settings) -> Engine:
    """The engine, at once; a local model loads behind it (on ZeroGPU before it returns)."""
    if settings.engine == "remote" or (settings.engine == "auto" and settings.remote_addresses()):
        from support.engines.remote import RemoteEngine

        return RemoteEngine(settings)

    def local() -> Engine:
        from support.engines.transformers import TransformersEngine, load  # torch takes seconds to import

        return TransformersEngine(load(settings), settings.context_tokens)

    return BackgroundEngine(local, settings.model_id, wait=_zero_gpu())


def _zero_gpu() -> bool:
    from spaces.config import Config

    return Config.zero_gpu
