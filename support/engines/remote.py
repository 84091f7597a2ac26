"""The remote engine: words from OpenAI-compatible servers (vLLM, TGI, Inference Endpoints, `transformers serve`).

Screening and gate stay here: only the writing happens elsewhere. The server applies the model's chat template. A failure before
the first word is tried again, at another address where there is one; after it nothing is, or a person would read two beginnings.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import ssl
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import httpx2
from huggingface_hub import AsyncInferenceClient, set_async_client_factory

from support import prompt
from support.engines.addresses import Address, choose
from support.engines.base import GenerationFailed, GenerationParams
from support.prompt import Message
from support.settings import Settings

CHARS_PER_TOKEN = 3  # cautious for Llama tokenizers in English; the server's tokenizer is not here
HEARTBEAT_S = 0.25
CONNECT_S = 5.0  # a machine that is gone does not refuse, it keeps silent
TRIES = 3
BACKOFF_S = 0.5  # before the second try; doubled before each other, and shortened at random lest all come back at once
PATIENCE_S = 90.0  # no try begins later than this
AT_ONCE = 64  # replies; how many are really written at a time is for the servers to decide
CHECK_EVERY_S = 15.0
CHECK_TIMEOUT_S = 5.0

UNREACHABLE = "No server that writes the answers can be reached; check REMOTE_BASE_URL and that server's log."
BUSY = "The server that writes the answers has too much to do; please try again in a minute."
BROKE_OFF = "The server that writes the answers broke off in the middle; please try again, and check that server's log."

log = logging.getLogger(__name__)


class RemoteEngine:
    """Asks the addresses in `REMOTE_BASE_URL`. `ADAPTER_ID` is the server's name for its LoRA module, else `MODEL_ID` names
    the model. All that waits for a server waits in one event loop, where it can be cancelled; cancelling closes the stream,
    and that ends the server's writing."""

    def __init__(self, settings: Settings, timeout: float = 60, tries: int = TRIES) -> None:
        """`timeout`: seconds without a sign after which a server has failed. `tries`: for the first word of a reply."""
        self._settings = settings
        self._model = settings.adapter_id or settings.model_id or "default"
        self._token = settings.hf_token or "none"  # with None the client sends the token that it finds on this machine
        self._timeout: Any = httpx2.Timeout(timeout, connect=min(timeout, CONNECT_S))
        self._tries = tries
        self._addresses = [Address(url) for url in settings.remote_addresses()]
        self._checks: set[asyncio.Task] = set()
        self._loop = _loop()

    def stream(self, messages: Sequence[Message], params: GenerationParams, stop: threading.Event) -> Generator[str]:
        """See `support.engines.base.Engine`."""
        params = replace(params, max_new_tokens=min(params.max_new_tokens, self._settings.context_tokens // 2))
        room = (self._settings.context_tokens - params.max_new_tokens) * CHARS_PER_TOKEN

        def fits(candidate: list[Message]) -> bool:
            return sum(len(message["content"]) + 16 for message in candidate) <= room

        request = {
            "messages": [dict(message) for message in prompt.trim(messages, fits)],
            "max_tokens": params.max_new_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
        }
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        writing = asyncio.run_coroutine_threadsafe(self._write(request, pieces.put), self._loop)
        writing.add_done_callback(lambda _: pieces.put(None))
        try:
            while not stop.is_set():
                try:
                    piece = pieces.get(timeout=HEARTBEAT_S)
                except queue.Empty:
                    piece = ""
                if piece is None:
                    return writing.result()  # raises what broke it
                yield piece
        finally:
            writing.cancel()

    def describe(self) -> dict[str, Any]:
        """See `support.engines.base.Engine`. Being asked this is what keeps the health checks going."""
        self._loop.call_soon_threadsafe(self._check_those_due)
        statuses = {address.status for address in self._addresses}
        status = next(status for status in ("ready", "loading", "unavailable") if status in statuses)
        return {
            "status": status,
            **({"problem": UNREACHABLE} if status == "unavailable" else {}),
            "model": self._settings.model_id or self._model,
            "adapter": self._settings.adapter_id or None,
            "quantization": None,
            "device": "remote",
            "engine": "remote",
            "demonstration": False,
            "at_once": AT_ONCE,
        }

    async def _write(self, request: dict[str, Any], say: Callable[[str], None]) -> None:
        """One reply, piece by piece, into `say`."""
        begun, tried = time.monotonic(), []
        while address := choose(self._addresses, tried):
            tried.append(address)
            started = False
            try:
                with address.asked():
                    async for text in self._ask(address, request):
                        if text:
                            started = True
                            address.answered()
                        say(text)
                return
            except Exception as error:  # the client raises its own, its transport's and the server's errors
                status = getattr(getattr(error, "response", None), "status_code", 0)
                log.warning("%s failed: %s %s", address.name, type(error).__name__, status or "")
                if started:
                    address.failed()
                    raise GenerationFailed(BROKE_OFF) from error
                if 400 <= status < 500 and status != 429:
                    address.answered()
                    raise GenerationFailed(self._refusal(status)) from error
                if status != 429:  # busy is not broken
                    address.failed()
                if len(tried) == self._tries or time.monotonic() - begun > PATIENCE_S:
                    raise GenerationFailed(BUSY if status == 429 else UNREACHABLE) from error
            await asyncio.sleep(BACKOFF_S * 2 ** (len(tried) - 1) * random.uniform(0.5, 1))
        raise GenerationFailed(UNREACHABLE)

    async def _ask(self, address: Address, request: dict[str, Any]) -> AsyncGenerator[str]:
        async with AsyncInferenceClient(base_url=address.url, token=self._token, timeout=self._timeout) as client:
            async for chunk in await client.chat_completion(model=self._model, stream=True, **request):
                yield (chunk.choices[0].delta.content or "") if chunk.choices else ""

    def _refusal(self, status: int) -> str:
        if status in (401, 403):
            return f"The server that writes the answers refuses the token ({status}); check HF_TOKEN."
        if status == 404:
            return (
                f"The server that writes the answers does not serve {self._model} (404); check ADAPTER_ID and MODEL_ID, "
                "then REMOTE_BASE_URL."
            )
        return (
            f"The server that writes the answers does not take the request ({status}); check that ADAPTER_ID or MODEL_ID is a "
            "name that it serves, and that CONTEXT_TOKENS is not above its own."
        )

    def _check_those_due(self) -> None:
        now = time.monotonic()
        for address in self._addresses:
            if now >= address.check_due:
                address.check_due = now + CHECK_EVERY_S
                check = self._loop.create_task(_check(address))
                self._checks.add(check)  # the loop itself keeps only weak references
                check.add_done_callback(self._checks.discard)


async def _check(address: Address) -> None:
    """Asks for /health, which vLLM, TGI, llama.cpp and `transformers serve` have. Whoever says "not found" is there too."""
    try:
        async with _http() as client:
            url = address.url.rstrip("/").removesuffix("/v1") + "/health"
            healthy = (await client.get(url, timeout=CHECK_TIMEOUT_S)).status_code < 500
    except Exception:  # also a name that cannot be encoded: a check that dies would leave it "loading" for good
        healthy = False
    if healthy is not address.healthy:
        log.info("%s %s", address.name, "answers" if healthy else "does not answer")
    address.healthy = healthy


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="remote-engine", daemon=True).start()
    return loop


@cache
def _certificates() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


def _http() -> httpx2.AsyncClient:
    """A client is made for every reply; the Hub's own would read the certificates each time, 25 ms in which all wait."""
    return httpx2.AsyncClient(verify=_certificates(), follow_redirects=True)


set_async_client_factory(_http)
