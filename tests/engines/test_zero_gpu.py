"""What ZeroGPU refuses or takes back, as a sentence for the person; the errors are those of `spaces` itself."""

import logging
import threading
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from spaces.zero import client
from spaces.zero.api import QuotaInfos
from spaces.zero.gradio import error

from support import conversation
from support.engines import GenerationFailed, GenerationParams, generating
from tests.conftest import ScriptedEngine


def refused_by_zero_gpu(answer) -> Exception:
    """The error that `spaces` makes of what ZeroGPU answers."""
    meta = SimpleNamespace(auth=None, approve_result=None, queuing_reason=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "api_client", lambda: SimpleNamespace(schedule=lambda **_: (answer, meta)))
        patch.setattr(client.utils, "self_cgroup_device_path", lambda: "")
        with pytest.raises(Exception) as caught:
            client.schedule(task_id=1, duration=timedelta(seconds=60))
    return caught.value


QUOTA = refused_by_zero_gpu(QuotaInfos(left=0, wait=timedelta(hours=3)))
TOO_LONG = refused_by_zero_gpu(QuotaInfos(left=0, wait=timedelta(seconds=-1)))
NO_CARD = refused_by_zero_gpu(httpx.codes.SERVICE_UNAVAILABLE)
UNKNOWN = refused_by_zero_gpu(httpx.codes.BAD_GATEWAY)


def failing(fault, words=()):
    def card(ids, params):
        yield from words
        raise fault

    return card


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (QUOTA, "used up for now"),
        (TOO_LONG, "MAX_NEW_TOKENS"),
        (NO_CARD, "try again in a minute"),
        (error("ZeroGPU queue timeout", "No GPU was available after 60s. Retry later", html=True), "in a minute"),
        (error("ZeroGPU worker error", "GPU task aborted"), "took the graphics card back"),
        (error("ZeroGPU worker error", "OutOfMemoryError"), "please try again"),
        (UNKNOWN, "please try again"),
    ],
    ids=["quota", "too long", "no card", "queue", "aborted", "fault on the card", "unknown"],
)
def test_what_zero_gpu_refuses_is_a_sentence_with_what_to_do(fault, sentence, monkeypatch, caplog):
    monkeypatch.setattr(generating, "_write_on_zero_gpu", failing(fault))
    with caplog.at_level(logging.WARNING), pytest.raises(GenerationFailed, match=sentence):
        list(generating.write_on_zero_gpu([1, 2], GenerationParams()))
    assert "ZeroGPU failed" in caplog.text, "the log names the cause"


def test_the_person_gets_the_sentence_and_the_crisis_lines(monkeypatch):
    monkeypatch.setattr(generating, "_write_on_zero_gpu", failing(QUOTA, ["Rest is "]))
    engine: Any = ScriptedEngine()
    engine.stream = lambda messages, params, stop: generating.write_on_zero_gpu([1], params)
    *_, reply = conversation.respond("I had a long day.", [], "US", engine=engine)
    assert "used up for now" in reply.text and "988" in reply.text
    assert reply.receipt["source"] == "template" and "used up" in reply.receipt["error"]


def test_closing_reaches_the_card(monkeypatch):
    closed = threading.Event()

    def card(ids, params):
        try:
            while True:
                yield ""
        finally:
            closed.set()

    monkeypatch.setattr(generating, "_write_on_zero_gpu", card)
    pieces = generating.write_on_zero_gpu([1], GenerationParams())
    next(pieces)
    pieces.close()
    assert closed.is_set()
