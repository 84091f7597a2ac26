"""Rule, reply, line and classifier files that are broken: the app starts, says so, and every reply is help."""

import shutil
import time

import pytest

from support.screening import LEARNED
from tests.app.running import call, start
from tests.conftest import ROOT

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A copy of the project with broken files, running without a model."""
    copy = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "tests", "training", "outputs"))
    (copy / "assets/screening/suicide.yaml").write_text("rules: [")
    (copy / "assets/replies/en.yaml").write_text("[]")
    (copy / "assets/crisis_lines.json").write_text("{}")
    (copy / "assets/interface/en.yaml").write_text("- no words")
    (copy / "assets/interface/fr.yaml").write_text("bar: [")
    (copy / "assets/languages.yaml").write_text("- not a table")
    for part in LEARNED:
        (copy / "assets/screening" / part / "head.safetensors").unlink()
    yield from start(tmp_path_factory.mktemp("broken"), project=copy, MODEL_ID="/no/such/model")


def test_every_reply_is_help(broken):
    for message in ("I want to die", "I like tea", ""):
        reply, receipt = call(broken.url, "chat", [message, [], "US"])
        assert "findahelpline.com" in reply and "112" in reply
        assert receipt["source"] == "template"


def test_health_and_log_say_what_is_broken(broken):
    health = call(broken.url, "health", [])[0]
    end = time.monotonic() + 60
    while "loading" in (health[part] for part in LEARNED) and time.monotonic() < end:
        time.sleep(1)
        health = call(broken.url, "health", [])[0]
    assert health["status"] == "degraded" and {health[part] for part in LEARNED} == {"off"}
    assert set(health["problems"]) == {"screening", "replies", "crisis_lines", "interface", *LEARNED}
    assert "suicide.yaml" in health["problems"]["screening"] and "suicide.yaml" in broken.log.read_text()
