"""An engine that loads behind the page: the help panel and the screening work at once, the model when it is ready."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

from support.engines.base import Engine, EngineError, GenerationParams, ModelUnavailable
from support.prompt import Message

HEARTBEAT_S = 0.25

log = logging.getLogger(__name__)


class BackgroundEngine:
    """Stands in for an engine until `load` has made it; keeps the reason where it could not.

    Args:
        load: makes the engine; raises EngineError with one sentence that names the fix.
        model: what is being loaded, shown until the engine can tell itself.
        after: loading begins when it is set.
        wait: load now, in this thread (ZeroGPU needs its model before the app starts).
    """

    def __init__(
        self,
        load: Callable[[], Engine],
        model: str = "",
        *,
        after: threading.Event | None = None,
        wait: bool = False,
    ) -> None:
        self._load, self._model, self._after = load, model, after
        self._engine: Engine | None = None
        self._problem = ""
        self._done = threading.Event()
        if wait:
            self._run()
        else:
            threading.Thread(target=self._run_later, name="model-loading", daemon=True).start()

    def _run_later(self) -> None:
        if self._after:
            self._after.wait()
        self._run()

    def _run(self) -> None:
        try:
            self._engine = self._load()
            log.info("The model is ready: %s", self._engine.describe())
        except EngineError as error:
            self._problem = str(error)
        except Exception:
            log.exception("The model could not be loaded")
            self._problem = "The model could not be loaded; the log names the cause."
        finally:
            self._done.set()

    def stream(self, messages: Sequence[Message], params: GenerationParams, stop: threading.Event) -> Generator[str]:
        """See `support.engines.base.Engine`. While the model loads, gives "" so that the caller stays in touch."""
        while not self._done.wait(HEARTBEAT_S):
            if stop.is_set():
                return
            yield ""
        if self._engine is None:
            raise ModelUnavailable(self._problem)
        yield from self._engine.stream(messages, params, stop)

    def describe(self) -> dict[str, Any]:
        """See `support.engines.base.Engine`."""
        if self._engine is not None:
            return self._engine.describe()
        state = {"status": "unavailable", "problem": self._problem} if self._done.is_set() else {"status": "loading"}
        return {
            **state,
            "model": self._model,
            "adapter": None,
            "quantization": None,
            "device": None,
            "engine": None,
            "demonstration": False,
        }
