"""The remote engine against a real OpenAI-compatible server: `transformers serve` with the embedded model, on loopback."""

import threading

import pytest

from support import prompt
from support.engines import GenerationFailed, GenerationParams, start
from support.engines.remote import RemoteEngine
from tests.serving import needs_it, transformers_serve

MESSAGES = prompt.build([{"role": "user", "content": "I feel nervous before my exam."}])

pytestmark = needs_it


@pytest.fixture(scope="module")
def server():
    with transformers_serve() as served:
        yield served


def test_it_streams_and_stops(server):
    engine = start(server[1])
    assert isinstance(engine, RemoteEngine) and engine.describe()["device"] == "remote"
    stop = threading.Event()
    pieces = list(engine.stream(MESSAGES, GenerationParams(max_new_tokens=24), stop))
    assert len("".join(pieces).split()) > 5 and len([piece for piece in pieces if piece]) > 3
    stopped = []
    for piece in engine.stream(MESSAGES, GenerationParams(max_new_tokens=200), stop):
        assert not stop.is_set()
        stopped.append(piece)
        if len(stopped) == 8:
            stop.set()


def test_a_server_killed_while_it_writes_is_a_sentence(server):
    process, settings = server
    pieces = RemoteEngine(settings).stream(MESSAGES, GenerationParams(max_new_tokens=200), threading.Event())
    with pytest.raises(GenerationFailed, match="REMOTE_BASE_URL"):
        for number, _piece in enumerate(pieces):
            if number == 4:
                process.kill()
    with pytest.raises(GenerationFailed, match="REMOTE_BASE_URL"):
        list(RemoteEngine(settings).stream(MESSAGES, GenerationParams(), threading.Event()))
