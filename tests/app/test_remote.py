"""The running app where the words come from servers elsewhere: none answers, then one does."""

import time

import pytest

from tests.app.running import call, start
from tests.serving import ScriptedServer, free_port

pytestmark = pytest.mark.server


def test_screening_and_help_work_without_a_server_and_the_model_comes_back_by_itself(tmp_path):
    first, second = free_port(), free_port()
    urls = f"http://127.0.0.1:{first}/v1,http://127.0.0.1:{second}/v1"
    for app in start(tmp_path, REMOTE_BASE_URL=urls, MODEL_ID="some/model"):
        health = app.wait_for_model()
        assert health["status"] == "degraded" and "REMOTE_BASE_URL" in health["model"]["problem"]
        reply, receipt = call(app.url, "chat", ["I feel tired today.", [], "US"])
        assert receipt["source"] == "template" and "REMOTE_BASE_URL" in receipt["error"] and "988" in reply
        reply, receipt = call(app.url, "chat", ["I want to kill myself", [], "US"])
        assert receipt["level"] >= 2 and not receipt["error"] and "988" in reply

        with ScriptedServer(port=second) as server:
            end = time.monotonic() + 60
            while call(app.url, "health", [])[0]["model"]["status"] != "ready":
                assert time.monotonic() < end, "it did not recover"
                time.sleep(1)
            reply, receipt = call(app.url, "chat", ["I feel tired today.", [], "US"])
            assert receipt["source"] == "model" and "Rest is allowed." in reply
            asked = len(server.asked)
            call(app.url, "chat", ["I want to kill myself", [], "US"])
            assert asked == len(server.asked) == 1, "no model is asked where someone is at risk"
