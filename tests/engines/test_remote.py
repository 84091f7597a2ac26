"""The remote engine against real OpenAI-compatible servers: `transformers serve` with the embedded model, on loopback."""

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from support import prompt
from support.engines import GenerationFailed, GenerationParams, start
from support.engines.remote import RemoteEngine
from support.settings import Settings
from tests.serving import needs_it, transformers_serve

MESSAGES = prompt.build([{"role": "user", "content": "I feel nervous before my exam."}])

pytestmark = needs_it


@pytest.fixture(scope="module")
def server():
    with transformers_serve() as served:
        yield served


def words(engine: RemoteEngine, tokens: int = 24) -> Iterator[str]:
    """The pieces with words in them."""
    return filter(None, engine.stream(MESSAGES, GenerationParams(max_new_tokens=tokens), threading.Event()))


def test_it_streams_and_stops(server):
    engine = start(server[1])
    assert isinstance(engine, RemoteEngine) and engine.describe()["device"] == "remote"
    pieces = list(words(engine))
    assert len("".join(pieces).split()) > 5 and len(pieces) > 3
    stop = threading.Event()
    stopped = []
    for piece in engine.stream(MESSAGES, GenerationParams(max_new_tokens=200), stop):
        assert not stop.is_set()
        stopped.append(piece)
        if len(stopped) == 8:
            stop.set()
    assert engine.describe()["status"] == "ready"


def test_a_name_that_the_server_does_not_serve_is_a_sentence(server):
    engine = RemoteEngine(Settings(remote_base_url=server[1].remote_base_url, adapter_id="no-such-adapter"))
    with pytest.raises(GenerationFailed, match="ADAPTER_ID"):
        list(words(engine))


def test_a_server_killed_while_it_writes_is_a_sentence_and_another_takes_over(server):
    process, settings = server
    with transformers_serve() as (_, second):
        engine = RemoteEngine(
            Settings(remote_base_url=f"{settings.remote_base_url},{second.remote_base_url}", model_id=settings.model_id)
        )
        with pytest.raises(GenerationFailed, match="broke off"):
            for number, _piece in enumerate(words(engine, tokens=200)):
                if number == 4:
                    process.kill()
        assert process.wait(20) == -signal.SIGKILL
        for _ in range(2):
            assert len("".join(words(engine)).split()) > 5, "the second server answers"
    with pytest.raises(GenerationFailed, match="REMOTE_BASE_URL"):
        list(words(engine))


def test_a_reply_without_a_word_yet_is_written_by_another_server():
    with transformers_serve() as (process, first), transformers_serve() as (_, second):
        engine = RemoteEngine(
            Settings(remote_base_url=f"{first.remote_base_url},{second.remote_base_url}", model_id=first.model_id)
        )
        process.send_signal(signal.SIGSTOP)  # takes the connection and says nothing
        pieces = engine.stream(MESSAGES, GenerationParams(max_new_tokens=24), threading.Event())
        before = [next(pieces) for _ in range(2)]
        assert not any(before), "signs of life, no words"
        process.kill()
        begun = time.monotonic()
        assert len("".join(pieces).split()) > 5
        assert time.monotonic() - begun < 30
