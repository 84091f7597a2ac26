"""/metrics of the running app: Prometheus text where METRICS=on, a sentence where not, and never a word of anybody."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.app.running import call, served
from tests.conftest import ScriptedEngine

pytestmark = pytest.mark.server

MARK = "quixotine-canary-51d8"


@pytest.fixture(scope="module")
def url():
    with served(ScriptedEngine(f"Hello {MARK}. Rest may help."), metrics="on") as running:
        yield running


def test_it_is_prometheus_text_and_health_has_it_too(url):
    call(url, "chat", ["I want to kill myself", [], "US"])
    answer = httpx.get(f"{url}/metrics", timeout=30)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    replies = families["support_replies"].samples
    assert [sample.labels["category"] for sample in replies if sample.labels["level"] != "0"] == ["suicide"]
    assert families["process_resident_memory_bytes"].samples[0].value > 1e7
    health = call(url, "health", [])[0]
    assert health["metrics"]["support_replies_total"] == sum(sample.value for sample in replies)


def test_no_word_of_a_message_its_history_or_its_sender(url):
    before = call(url, "health", [])[0]["metrics"]["support_replies_total"]
    earlier = [{"role": "user", "content": MARK}]
    for message in (f"I feel tired, {MARK}", f"I want to die {MARK}", MARK):
        call(url, "chat", [message, earlier, MARK])
    call(url, "chat", [MARK, [{"role": MARK, "content": MARK}], "US"])
    call(url, "screen", [MARK, []])
    httpx.get(f"{url}/metrics", params={"x": MARK}, headers={"x-forwarded-for": MARK}, timeout=30)
    text = httpx.get(f"{url}/metrics", timeout=30).text
    health = call(url, "health", [])[0]["metrics"]
    assert health["support_replies_total"] == before + 4 and health["support_pieces_total"] > 0
    assert not [word for word in (MARK, "tired", "127.0.0.1") if word in text + str(health)]


def test_off_it_is_a_sentence():
    with served(ScriptedEngine()) as running:
        call(running, "chat", ["I feel tired.", [], "US"])
        answer = httpx.get(f"{running}/metrics", timeout=30)
        assert answer.status_code == 404 and "METRICS=on" in answer.text and "support_" not in answer.text
        assert "metrics" not in call(running, "health", [])[0]
