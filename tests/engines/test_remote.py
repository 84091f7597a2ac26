"""The remote engine against real OpenAI-compatible servers: `transformers serve` with the embedded model, on loopback."""

import signal
import threading
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


def words(engine: RemoteEngine, tokens: int = 12) -> Iterator[str]:
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


def with_another(victim: Settings, server: tuple) -> RemoteEngine:
    """Asks the victim first, then the server that lives on."""
    addresses = f"{victim.remote_base_url},{server[1].remote_base_url}"
    return RemoteEngine(Settings(remote_base_url=addresses, model_id=victim.model_id))


def test_a_server_killed_while_it_writes_is_a_sentence_and_another_takes_over(server):
    with transformers_serve() as (process, victim):
        engine = with_another(victim, server)
        with pytest.raises(GenerationFailed, match="broke off"):
            for number, _piece in enumerate(words(engine, tokens=200)):
                if number == 4:
                    process.kill()
        assert process.wait(20) == -signal.SIGKILL
        for _ in range(2):
            assert len("".join(words(engine)).split()) > 5, "the second server answers"
        with pytest.raises(GenerationFailed, match="REMOTE_BASE_URL"):
            list(words(RemoteEngine(victim)))


def test_a_reply_without_a_word_yet_is_written_by_another_server(server):
    with transformers_serve() as (process, victim):
        process.send_signal(signal.SIGSTOP)  # takes the connection and says nothing
        pieces = with_another(victim, server).stream(MESSAGES, GenerationParams(max_new_tokens=12), threading.Event())
        before = [next(pieces) for _ in range(2)]
        assert not any(before), "signs of life, no words"
        process.kill()
        assert len("".join(pieces).split()) > 5
