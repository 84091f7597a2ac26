"""What a person does while a reply is being written: whatever they send takes its place, whatever they take away stays away."""

import pytest

from tests.app.running import served
from tests.browser.test_page import AT_RISK, REPLY, USER, enter, send, settle
from tests.conftest import LONG, ScriptedEngine

pytestmark = pytest.mark.browser

AFTER = 3_000  # milliseconds in which the reply would have been written on


@pytest.fixture
def writing(open_page):
    """A page in whose chat a long reply is being written, and the engine that writes it."""
    engine = ScriptedEngine(LONG, pause=0.02)
    with served(engine) as url:
        page = open_page(url)
        enter(page)
        yield page, engine


def answered_with_help(page) -> None:
    page.wait_for_function(
        "() => [...document.querySelectorAll('#chat .bot.message')].at(-1)?.innerText.includes('988')"
    )
    page.wait_for_timeout(AFTER)
    assert "988" in page.locator(REPLY).last.inner_text(), "what was written before came back over the help"
    assert AT_RISK in page.locator(USER).last.inner_text()
    assert "in the help panel" in page.locator("#help-risen").inner_text()
    assert page.locator("#message .submit-button").is_visible() and not page.locator("#message textarea").input_value()


@pytest.mark.parametrize("began", ["sent", "opener"])
def test_help_comes_at_once(writing, began):
    page, engine = writing
    if began == "sent":
        send(page, "I had a long day.")
    else:
        page.get_by_text("I feel lonely lately.").click()
    page.get_by_text("The green armchair").wait_for()
    page.locator("#message textarea").fill(AT_RISK)
    page.wait_for_timeout(500)  # as a person types: the page has taken in the last letter before Enter
    page.keyboard.press("Enter")
    answered_with_help(page)
    assert engine.stopped, "the model writes on, unseen"
    send(page, "Thanks.")
    page.get_by_text("The green armchair").nth(1).wait_for()


def test_enter_in_an_empty_box_changes_nothing(writing):
    page, _ = writing
    send(page, "I had a long day.")
    page.get_by_text("The green armchair").wait_for()
    page.keyboard.press("Enter")
    settle(page)
    assert page.locator(USER).count() == 1 and "soft cushion by the stairs" in page.locator(REPLY).inner_text()


def test_everything_deleted_takes_the_chat_and_what_is_half_written(open_page):
    """In any language: Gradio's own button for it is named in the page's."""
    with served(ScriptedEngine(LONG, pause=0.02)) as url:
        page = open_page(url)
        page.locator("#language").select_option("es")
        page.wait_for_load_state()
        page.wait_for_function("() => document.querySelector('gradio-app')?.lang === 'es'")
        enter(page)
        send(page, "I had a long day.")
        page.get_by_text("The green armchair").wait_for()
        page.locator("#message textarea").fill("half written")
        page.locator('#bar [data-room="data"]').first.click()
        page.on("dialog", lambda dialog: dialog.accept())
        page.locator('[data-do="delete-all"]').click()
        page.wait_for_timeout(AFTER)
        page.locator('#bar [data-room="chat"]').first.click()
        assert page.locator(REPLY).count() == 0 and page.locator(USER).count() == 0
        assert page.locator("#message textarea").input_value() == ""
