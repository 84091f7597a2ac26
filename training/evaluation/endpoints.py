"""Models behind an OpenAI-compatible address: ChatGPT, vLLM, TGI, Inference Endpoints, `transformers serve`.

    name, endpoint = read("chatgpt=gpt-4o-mini@https://api.openai.com/v1")
    for answer, first, seconds in ask_all(endpoint, questions, params): ...

The key is taken from NAME_API_KEY (CHATGPT_API_KEY here, JUDGE_API_KEY for the judge), for api.openai.com else from
OPENAI_API_KEY, for the Hub's own addresses else from HF_TOKEN. No address gets the key of another.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from support.engines import GenerationFailed, GenerationParams
from support.engines.remote import RemoteEngine
from support.prompt import Message
from support.settings import Settings
from training import TrainingError
from training.evaluation.answers import Answer, streamed

ABOUT = "an OpenAI-compatible server to measure too, such as chatgpt=gpt-4o-mini@https://api.openai.com/v1; can be given again"
HUB_HOSTS = (".huggingface.co", ".huggingface.cloud", ".hf.space")
AT_ONCE = 4
CONTEXT = 32_768  # tokens that a judge may read; nothing of a pair of answers is cut
TRIES = 4
FIRST_WAIT = 2.0  # seconds; doubled after each try

REFUSALS = (400, 401, 403, 404)
T = TypeVar("T")
log = logging.getLogger(__name__)


class Refused(GenerationFailed):
    """Asking this server again is of no use."""


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and for which model."""

    model: str
    address: str
    name: str = ""

    def key(self) -> str:
        """What to authenticate with; "none" where nothing is set, lest the Hub's client send the token it has stored."""
        host = urlsplit(self.address).hostname or ""
        own = os.environ.get(f"{self.name.upper().replace('-', '_')}_API_KEY", "")
        of_openai = os.environ.get("OPENAI_API_KEY", "") if host == "api.openai.com" else ""
        of_hub = os.environ.get("HF_TOKEN", "") if host.endswith(HUB_HOSTS) else ""
        return own or of_openai or of_hub or "none"

    def engine(self, seconds: float = 120) -> RemoteEngine:
        """Speaks to it as the app does. A server that is silent for so many `seconds` has failed. It tries once: what is
        tried again starts a new clock, and a whole answer can be tried again where no person has read its beginning."""
        token, context = self.key(), CONTEXT
        settings = Settings(remote_base_url=self.address, model_id=self.model, hf_token=token, context_tokens=context)
        return RemoteEngine(settings, timeout=seconds, tries=1)

    def say(self, messages: list[Message], params: GenerationParams, seconds: float = 120) -> str:
        """The whole reply; tried again where the server is busy or fails.

        Raises:
            GenerationFailed: it failed TRIES times.
        """
        engine = self.engine(seconds)
        return retried(lambda: "".join(engine.stream(messages, params, threading.Event())))


def read(text: str) -> tuple[str, Endpoint]:
    """ "NAME=MODEL@ADDRESS" -> name and endpoint. Raises TrainingError: it is not that."""
    name, equals, rest = text.partition("=")
    model, at, address = rest.rpartition("@")
    if not (name and equals and model and at and address.startswith(("http://", "https://"))):
        raise TrainingError(
            f"{text!r} must be NAME=MODEL@ADDRESS, such as chatgpt=gpt-4o-mini@https://api.openai.com/v1."
        )
    if name in ("base", "adapter") or not name.replace("-", "").replace("_", "").isalnum():
        raise TrainingError(
            f"An endpoint cannot be called {name!r}: use letters, digits and - that are not base or adapter."
        )
    return name, Endpoint(model, address, name)


def ask_all(
    endpoint: Endpoint, questions: Sequence[str], params: GenerationParams
) -> Iterator[tuple[Answer, float, float]]:
    """As `answers.streamed`, AT_ONCE at a time, in the order in which they come; questions that fail are left out.

    Raises:
        Refused: the server takes no question of ours.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [
            pool.submit(retried, lambda question=question: streamed(endpoint.engine(), question, params))
            for question in questions
        ]
        for done in as_completed(asked):
            try:
                yield done.result()
            except Refused:
                pool.shutdown(cancel_futures=True)
                raise
            except GenerationFailed as error:
                log.warning("A question got no answer: %s", error)


def retried(ask: Callable[[], T], wait: float = FIRST_WAIT) -> T:
    """What `ask` gives, asked again with growing pauses where the server failed or was busy.

    Raises:
        Refused: the server says that asking again is of no use.
        GenerationFailed: it failed TRIES times.
    """
    for attempt in range(TRIES):
        try:
            return ask()
        except GenerationFailed as error:
            status = getattr(getattr(error.__cause__, "response", None), "status_code", 0)
            if status in REFUSALS:
                raise Refused(
                    f"The server refuses ({status}); check the address, the model's name and the key."
                ) from error
            if attempt == TRIES - 1:
                raise
            time.sleep(wait * 2**attempt)
    raise AssertionError("not reached")
