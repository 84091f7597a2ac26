"""The remote engine against real HTTP servers that fail on demand."""

import logging
import threading
import time

import pytest

from support import prompt
from support.engines import GenerationFailed, GenerationParams, addresses, remote
from support.engines.remote import RemoteEngine
from support.settings import Settings
from tests.serving import ScriptedServer, free_port

WORDS = "".join(ScriptedServer.words)
MESSAGES = prompt.build([{"role": "user", "content": "marked-message"}])

pytestmark = pytest.mark.server


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(remote, "BACKOFF_S", 0.01)
    monkeypatch.setattr(remote, "CHECK_EVERY_S", 0.05)


def engine(*urls: str, timeout: float = 5, **settings) -> RemoteEngine:
    return RemoteEngine(Settings(remote_base_url=",".join(urls), model_id="m", **settings), timeout)


def said(engine: RemoteEngine, stop: threading.Event | None = None) -> str:
    return "".join(engine.stream(MESSAGES, GenerationParams(), stop or threading.Event()))


def until(true, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


@pytest.mark.parametrize("script", [[429], [500, 503], ["malformed", "malformed"], ["silence"]])
def test_a_failure_before_the_first_word_is_tried_again(script):
    with ScriptedServer(*script) as server:
        assert said(engine(server.url, timeout=0.3)) == WORDS
    assert len(server.asked) == len(script) + 1
    assert server.asked[-1]["messages"][-1]["content"] == "marked-message" and server.asked[-1]["model"] == "m"


@pytest.mark.parametrize("status, sentence", [(429, "too much to do"), (500, "REMOTE_BASE_URL")])
def test_a_server_that_goes_on_failing_is_a_sentence_after_three_tries(status, sentence):
    with ScriptedServer(*[status] * 9) as server, pytest.raises(GenerationFailed, match=sentence):
        said(engine(server.url))
    assert len(server.asked) == remote.TRIES


@pytest.mark.parametrize(
    "status, variables",
    [
        (401, {"HF_TOKEN"}),
        (403, {"HF_TOKEN"}),
        (404, {"ADAPTER_ID", "MODEL_ID"}),
        (400, {"MODEL_ID", "CONTEXT_TOKENS"}),
    ],
)
def test_a_refusal_is_not_tried_again_and_names_what_to_check(status, variables):
    with ScriptedServer(status) as server, pytest.raises(GenerationFailed, match=str(status)) as refused:
        said(engine(server.url))
    assert len(server.asked) == 1
    assert all(variable in str(refused.value) for variable in variables)


@pytest.mark.parametrize("fault", ["cut", "malformed later"])
def test_after_the_first_word_nothing_is_tried_again(fault):
    pieces = []
    with ScriptedServer(fault) as server, ScriptedServer() as other, pytest.raises(GenerationFailed, match="broke off"):
        for piece in engine(server.url, other.url).stream(MESSAGES, GenerationParams(), threading.Event()):
            pieces.append(piece)
    assert "".join(pieces) == WORDS and len(server.asked) == 1 and not other.asked


@pytest.mark.parametrize("fault", [429, 500, "silence", "refused"])
def test_another_address_takes_over(fault):
    with ScriptedServer(*[fault] * 2) as first, ScriptedServer() as second:
        url = f"http://127.0.0.1:{free_port()}" if fault == "refused" else first.url
        both = engine(url, second.url, timeout=0.3)
        both._addresses[1].in_flight = 3  # it has more to do, and is asked all the same
        assert said(both) == WORDS
    assert len(second.asked) == 1 and len(first.asked) == (fault != "refused")


def test_replies_go_in_turn_and_past_a_server_that_is_busy_with_ours():
    with ScriptedServer() as first, ScriptedServer() as second:
        both = engine(first.url, second.url)
        for _ in range(4):
            assert said(both) == WORDS
        assert len(first.asked) == len(second.asked) == 2
        first.script = ["slow"]
        writing = both.stream(MESSAGES, GenerationParams(), threading.Event())
        until(lambda: next(writing))
        for _ in range(3):
            assert said(both) == WORDS
        writing.close()
        assert len(first.asked) == 3 and len(second.asked) == 5


def test_a_server_that_fails_again_and_again_is_left_alone_then_tried_once(monkeypatch):
    monkeypatch.setattr(addresses, "REST_S", 0.5)
    with ScriptedServer(*[500] * 7) as server:
        one = engine(server.url)
        for _ in range(4):
            with pytest.raises(GenerationFailed):
                said(one)
        assert len(server.asked) == addresses.FAILURES
        time.sleep(0.6)
        with pytest.raises(GenerationFailed):
            said(one)
        assert len(server.asked) == addresses.FAILURES + 1
        server.script.clear()
        time.sleep(0.6)
        assert said(one) == said(one) == WORDS


@pytest.mark.parametrize("script", ["silence", "slow"])
def test_stopping_hangs_up_within_a_second_and_gives_signs_of_life_until_then(script):
    with ScriptedServer(script) as server:
        stop, pieces = threading.Event(), []
        for piece in engine(server.url, timeout=30).stream(MESSAGES, GenerationParams(), stop):
            assert not stop.is_set(), "a piece after the stop"
            pieces.append(piece)
            if len(pieces) == 3:
                stop.set()
                stopped = time.monotonic()
        assert time.monotonic() - stopped < 1
        assert server.hung_up.wait(1), "the server would go on writing"
        assert any(pieces) == (script == "slow")


def test_closing_hangs_up_too():
    with ScriptedServer("slow") as server:
        pieces = engine(server.url).stream(MESSAGES, GenerationParams(), threading.Event())
        next(pieces)
        pieces.close()
        assert server.hung_up.wait(1)


def test_stopping_ends_the_pause_between_two_tries(monkeypatch):
    monkeypatch.setattr(remote, "BACKOFF_S", 60)
    with ScriptedServer(500) as server:
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        begun = time.monotonic()
        assert said(engine(server.url), stop) == ""
        assert time.monotonic() - begun < 1.3


def test_the_state_follows_the_server_and_is_told_at_once():
    port = free_port()
    one = engine(f"http://127.0.0.1:{port}/v1")
    assert one.describe()["status"] != "ready"
    until(lambda: one.describe()["status"] == "unavailable")
    assert "REMOTE_BASE_URL" in one.describe()["problem"]
    with ScriptedServer(port=port) as server:
        until(lambda: one.describe()["status"] == "ready")
        assert "problem" not in one.describe() and said(one) == WORDS
        checks = server.checks
        time.sleep(0.3)
        assert server.checks <= checks + 1, "nobody asked, so nothing is checked"
    until(lambda: one.describe()["status"] == "unavailable")


def test_a_server_is_checked_once_in_a_while_however_often_anyone_asks(monkeypatch):
    monkeypatch.setattr(remote, "CHECK_EVERY_S", 15)
    with ScriptedServer() as server:
        one = engine(server.url)
        until(lambda: one.describe()["status"] == "ready")
        for _ in range(10):
            one.describe()
            time.sleep(0.01)
        assert server.checks == 1


def test_a_health_check_that_hangs_keeps_nobody(monkeypatch):
    monkeypatch.setattr(remote, "CHECK_TIMEOUT_S", 0.5)
    with ScriptedServer() as deaf, ScriptedServer() as well:
        monkeypatch.setattr(deaf, "finish_request", lambda *_: threading.Event().wait(2))
        both = engine(deaf.url, well.url)
        begun = time.monotonic()
        both.describe()
        assert time.monotonic() - begun < 0.1
        until(lambda: both.describe()["status"] == "ready")
        until(lambda: both._addresses[0].healthy is False)
        assert both.describe()["status"] == "ready"
        for _ in range(3):
            assert said(both) == WORDS, "it was not asked"


@pytest.mark.parametrize("fault", [remote.httpx2.InvalidURL("no port"), UnicodeError("label empty"), OSError()])
def test_a_health_check_that_breaks_counts_as_no_answer(fault, monkeypatch):
    def broken():
        raise fault

    with ScriptedServer() as server:
        one = engine(server.url)
        with monkeypatch.context() as patch:
            patch.setattr(remote, "_http", broken)
            until(lambda: one.describe()["status"] == "unavailable")
        until(lambda: one.describe()["status"] == "ready")


def test_a_host_that_no_resolver_takes_is_told_as_out_of_reach():
    one = engine("http://a..b:8000/v1")
    until(lambda: one.describe()["status"] == "unavailable")
    with pytest.raises(GenerationFailed, match="REMOTE_BASE_URL"):
        said(one)


def test_the_token_goes_to_the_servers_and_no_other_token_does(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_stored")
    with ScriptedServer() as server:
        said(engine(server.url, hf_token="hf_given"))
        said(engine(server.url))
    assert server.tokens == ["Bearer hf_given", "Bearer none"]


def test_the_log_holds_no_message_and_no_token(caplog):
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(500, 400) as server, pytest.raises(GenerationFailed):
        said(engine(server.url, hf_token="hf_given"))
    assert "HfHubHTTPError 500" in caplog.text
    assert "marked-message" not in caplog.text and "hf_given" not in caplog.text
