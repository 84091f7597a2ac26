"""The remote engine: words from an OpenAI-compatible server (vLLM, TGI, Inference Endpoints, `transformers serve`).

Screening and gate stay here: only the writing happens elsewhere. The server applies the model's chat template.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Sequence
from typing import Any

from huggingface_hub import InferenceClient

from support import prompt
from support.engines.base import GenerationFailed, GenerationParams
from support.prompt import Message
from support.settings import Settings

CHARS_PER_TOKEN = 3  # cautious for Llama tokenizers in English; the server's tokenizer is not here

log = logging.getLogger(__name__)


class RemoteEngine:
    """Asks `REMOTE_BASE_URL`. `ADAPTER_ID` is the server's name for its LoRA module, else `MODEL_ID` names the model."""

    def __init__(self, settings: Settings, timeout: float = 120) -> None:
        """`timeout`: seconds without a sign after which the server has failed."""
        self._settings = settings
        self._model = settings.adapter_id or settings.model_id or "default"
        self._client = InferenceClient(
            base_url=settings.remote_base_url, token=settings.hf_token or None, timeout=timeout
        )

    def stream(self, messages: Sequence[Message], params: GenerationParams, stop: threading.Event) -> Generator[str]:
        """See `support.engines.base.Engine`."""
        room = (self._settings.context_tokens - params.max_new_tokens) * CHARS_PER_TOKEN

        def fits(candidate: list[Message]) -> bool:
            return sum(len(message["content"]) + 16 for message in candidate) <= room

        yield ""
        try:
            chunks = self._client.chat_completion(
                messages=[dict(message) for message in prompt.trim(messages, fits)],
                model=self._model,
                stream=True,
                max_tokens=params.max_new_tokens,
                temperature=params.temperature,
                top_p=params.top_p,
            )
            for chunk in chunks:
                if stop.is_set():
                    return
                yield (chunk.choices[0].delta.content or "") if chunk.choices else ""
        except Exception as error:  # the client raises its own, httpx's and the server's errors
            log.error("The remote engine failed: %s", type(error).__name__)
            raise GenerationFailed(
                "The server that writes the answers cannot be reached; check REMOTE_BASE_URL and that server's log."
            ) from error

    def describe(self) -> dict[str, Any]:
        """See `support.engines.base.Engine`. The server is asked when someone writes, not before."""
        return {
            "status": "ready",
            "model": self._settings.model_id or self._model,
            "adapter": self._settings.adapter_id or None,
            "quantization": None,
            "device": "remote",
            "demonstration": False,
        }
