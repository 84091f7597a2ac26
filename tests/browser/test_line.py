"""The page while the model writes to others: the place in line is shown, can be left, and help comes all the same."""

import httpx
import pytest

from tests.app.running import served
from tests.browser.test_page import AT_RISK, REPLY, enter, send, settle
from tests.conftest import HeldEngine, ScriptedEngine

pytestmark = pytest.mark.browser


@pytest.fixture
def busy():
    """The app with every place taken by programs."""
    engine = HeldEngine()
    with served(engine) as url:
        for address in ("192.0.2.1", "192.0.2.2"):
            body = {"data": ["I feel tired.", [], "US"]}
            httpx.post(f"{url}/gradio_api/call/chat", json=body, headers={"x-forwarded-for": address}, timeout=30)
        yield url
        engine.go.set()


def test_the_place_in_line_and_help_beside_it(busy, open_page, shoot):
    page = open_page(busy)
    enter(page)
    send(page, "I feel stressed.")
    page.get_by_text("are answered first: 1").wait_for()
    shoot(page, "line")
    page.locator("#message .stop-button").click()
    page.locator("#message .submit-button").wait_for(state="visible")
    page.wait_for_timeout(1000)
    assert page.locator(REPLY).count() == 0, "a sign of life stands as a reply"
    send(page, AT_RISK)
    settle(page)
    assert "988" in page.locator(REPLY).last.inner_text()


def test_a_rating_is_counted_and_thanked_for_without_a_word_of_the_chat(open_page):
    with served(ScriptedEngine(), metrics="on") as url:
        page = open_page(url)
        enter(page)
        send(page, "I had a long day.")
        settle(page)
        page.get_by_role("button", name="Feedback").click()
        page.get_by_text("Unsafe").click()
        page.get_by_text("Only that you pressed this is counted").wait_for()
        numbers = httpx.get(f"{url}/metrics", timeout=30).text
        assert 'support_rated_total{rating="Unsafe"} 1.0' in numbers and "long day" not in numbers


def test_the_words_of_a_rating_are_in_the_pages_language(open_page):
    with served(ScriptedEngine(), metrics="on") as url:
        page = open_page(f"{url}?lang=es")
        enter(page)
        send(page, "I had a long day.")
        settle(page)
        page.locator(".extra-feedback button").first.click()
        page.locator(".extra-feedback-option").last.hover()
        assert page.locator(".extra-feedback-option").all_inner_texts() == ["Inseguro", "No ayuda"]
        page.get_by_text("Inseguro").click()
        page.get_by_text("Only that you pressed this is counted").wait_for()  # in the language of the chat
        assert 'support_rated_total{rating="Unsafe"} 1.0' in httpx.get(f"{url}/metrics", timeout=30).text
