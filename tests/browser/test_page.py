"""The page as people meet it: consent, send, stream, stop, retry, undo, edit, clear, country, no model, no JavaScript."""

import re

import pytest

from tests.app.running import served
from tests.conftest import LONG, ScriptedEngine

pytestmark = pytest.mark.browser

SCREENS = ("desktop", "phone")
AT_RISK = "I want to kill myself"
LINES = "#help-lines .help-lines"
REPLY = "#chat .bot.message"
USER = "#chat .user.message"


def enter(page):
    page.locator("#agree input").check()
    page.locator("#agree-support input").check()
    page.locator("#start:not([disabled])").click()
    page.locator("#message textarea").wait_for(state="visible")


def send(page, text):
    page.locator("#message textarea").fill(text)
    page.keyboard.press("Enter")


def settle(page, replies=1):
    """Wait until the reply is whole: the send button is back."""
    page.wait_for_function("n => document.querySelectorAll('#chat .bot.message').length >= n", arg=replies)
    page.locator("#message .submit-button").wait_for(state="visible", timeout=90_000)


def shown_lines(page):
    return page.locator(LINES).locator("visible=true").get_attribute("data-country")


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


@pytest.mark.parametrize("screen", SCREENS)
def test_consent_comes_first(app, open_page, shoot, screen):
    page = open_page(app.url, screen)
    page.locator("#start").wait_for()
    assert page.locator("#start").is_disabled(), "the chat opens without the person's yes"
    assert not page.locator("#message textarea").is_visible()
    assert "not therapy" in page.locator("#bar").inner_text()
    assert page.locator("#help").is_visible() and shown_lines(page) == "US"
    shoot(page, f"consent-{screen}")
    enter(page)
    assert not page.faults and not page.foreign
    assert overflow(page) <= 0


@pytest.mark.parametrize("screen", SCREENS)
def test_a_chat_with_the_real_model(app, open_page, shoot, screen):
    page = open_page(app.url, screen)
    enter(page)
    assert "small demonstration model" in page.locator("#status").inner_text()
    send(page, "I feel stressed and cannot switch off.")
    page.locator(REPLY).first.wait_for()
    settle(page)
    reply = page.locator(REPLY).first.inner_text()
    assert len(reply.split()) > 8 and "Reading your message" not in reply
    assert page.locator("#help").is_visible(), "the help panel left the view"
    assert page.locator("#help").bounding_box()["y"] >= 0
    shoot(page, f"chat-{screen}")
    assert overflow(page) <= 0 and not page.faults and not page.foreign


@pytest.mark.parametrize("screen", SCREENS)
def test_a_crisis_reply(app, open_page, shoot, screen):
    page = open_page(app.url, screen)
    enter(page)
    page.locator("#help-country").select_option("GB")
    send(page, AT_RISK)
    settle(page)
    reply = page.locator(REPLY).first
    assert "116 123" in reply.inner_text()
    assert reply.locator('a[href="tel:116123"]').count() >= 1
    assert "in the help panel" in page.locator("#help-risen").inner_text(), "a reader is told"
    assert page.evaluate("document.activeElement.closest('#message') !== null"), "the focus was taken away"
    page.get_by_role("button", name="Why this reply").click()
    page.wait_for_function("() => document.querySelector('#why')?.innerText.includes('People wrote these words')")
    page.get_by_role("button", name="Why this reply").click()
    call_now = page.locator("#help .help-contact a").locator("visible=true").first
    assert call_now.bounding_box()["y"] < page.viewport_size["height"] / 2, "the panel did not rise"
    shoot(page, f"crisis-{screen}")
    page.get_by_role("button", name=re.compile("clear", re.IGNORECASE)).first.click()
    page.wait_for_function("() => !('risk' in document.body.dataset)")


@pytest.mark.parametrize("screen", SCREENS)
def test_what_matters_is_in_view_without_scrolling(app_without_model, open_page, screen):
    page = open_page(app_without_model.url, screen)
    for seen in ("#help .help-emergency", "#need-help", "#leave", "#start"):
        box = page.locator(seen).locator("visible=true").first.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= page.viewport_size["height"], seen
    enter(page)
    for seen in ("#help .help-emergency", "#need-help", "#leave", "#chat", "#message textarea"):
        box = page.locator(seen).locator("visible=true").first.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= page.viewport_size["height"], seen


def test_what_makes_contact_hard_by_button(app, open_page, shoot):
    page = open_page(app.url)
    enter(page)
    send(page, "I want to kill myself")
    settle(page)
    page.get_by_role("button", name="What makes it hard to contact them?").click()
    settle(page, 2)
    page.get_by_role("button", name="I worry about the cost").click()
    settle(page, 3)
    answer = page.locator("#chat .bot").last.inner_text()
    assert "does this cost me anything" in answer
    shoot(page, "barriers")


def test_the_safety_protocol_is_linked_and_readable(app, open_page, shoot):
    page = open_page(app.url)
    with page.expect_popup() as opened:  # beside the chat, which would be lost otherwise
        page.get_by_role("link", name="How this chat is kept safe").click()
    protocol = opened.value
    protocol.wait_for_selector("h1")
    assert "Safety protocol" in protocol.title() and protocol.locator("table").count() >= 2
    shoot(protocol, "protocol")
    protocol.get_by_role("link", name="Back to the chat").click()
    protocol.wait_for_selector("#help")


def test_stop_ends_the_writing_and_keeps_what_was_shown(open_page):
    engine = ScriptedEngine(LONG, pause=0.02)
    with served(engine) as url:
        page = open_page(url)
        enter(page)
        send(page, "How could I wind down in the evening?")
        page.get_by_text("The green armchair").wait_for()
        page.locator("#message .stop-button").click()
        page.locator("#message .submit-button").wait_for(state="visible")
        page.wait_for_timeout(1000)
        assert engine.stopped, "the model writes on, unseen"
        before = page.locator(REPLY).first.inner_text()
        page.wait_for_timeout(2500)
        assert page.locator(REPLY).first.inner_text() == before and "Reading your message" not in before
        send(page, "Thanks.")  # the model is free, and the chat goes on
        page.get_by_text("The green armchair").nth(1).wait_for()


def test_the_chat_is_saved_as_it_was(open_page):
    with served(ScriptedEngine("That sounds tiring. Rest may help.")) as url:
        page = open_page(url)
        enter(page)
        send(page, "I had a long day.")
        settle(page)
        page.locator('#bar [data-room="data"]').first.click()
        with page.expect_download() as download:
            page.locator('[data-do="export-chat"]').click()
        text = download.value.path().read_text(encoding="utf-8")
    assert text.count("**Me**") == text.count("I had a long day.") == 1
    assert text.count("**AI**") == text.count("That sounds tiring. Rest may help.") == 1
    assert text.index("I had a long day.") < text.index("**AI**") < text.index("That sounds tiring.")


def test_retry_undo_edit_and_clear(app, open_page):
    page = open_page(app.url)
    enter(page)
    send(page, AT_RISK)
    settle(page)
    page.get_by_role("button", name=re.compile("retry", re.IGNORECASE)).click()
    settle(page)
    assert page.locator(USER).count() == 1 and page.locator(REPLY).count() == 1
    page.get_by_role("button", name=re.compile("edit", re.IGNORECASE)).first.click()
    page.locator("#chat textarea").fill("I want to die")
    page.get_by_role("button", name=re.compile("submit", re.IGNORECASE)).first.click()
    page.wait_for_function("() => document.querySelector('#chat .user.message')?.innerText.includes('I want to die')")
    settle(page)
    page.get_by_role("button", name=re.compile("undo", re.IGNORECASE)).click()
    page.wait_for_function("() => document.querySelectorAll('#chat .message.bot').length === 0")
    assert page.locator("#message textarea").input_value() == "I want to die"
    send(page, AT_RISK)
    settle(page)
    page.get_by_role("button", name=re.compile("clear", re.IGNORECASE)).first.click()
    page.wait_for_function("() => document.querySelectorAll('#chat .message.bot').length === 0")


def test_an_opener_starts_the_chat(app, open_page):
    page = open_page(app.url)
    enter(page)
    page.get_by_text("I feel lonely lately.").click()
    settle(page)
    assert page.locator(USER).first.inner_text().strip().startswith("I feel lonely lately.")


def test_another_language_is_answered_in_it(app, open_page):
    page = open_page(app.url)
    enter(page)
    send(page, "Hoy tuve un día muy largo en el trabajo y estoy cansado.")
    settle(page)
    assert "inglés" in page.locator(REPLY).first.inner_text()


def test_about_the_model(app, open_page, shoot):
    page = open_page(app.url)
    page.get_by_role("link", name="About the model").click()
    page.wait_for_selector("#model .checks .fine")
    assert "Every part works" in page.locator("#model .said").inner_text()
    assert "SmolLM2" in page.locator("#model .checks").inner_text()
    shoot(page, "about-the-model")


def test_the_country_changes_without_the_server(app, open_page):
    page = open_page(app.url)
    page.locator("#start").wait_for()
    page.context.set_offline(True)
    for code in ("JP", "GB", ""):
        page.locator("#help-country").select_option(code)
        assert shown_lines(page) == code


def test_no_javascript_still_shows_the_lines(app, open_page, shoot):
    page = open_page(app.url, "phone", java_script_enabled=False)
    assert page.locator("#help").is_visible()
    page.locator("#help-country").select_option("FR")
    assert page.locator(LINES).locator("visible=true").count() == 1
    assert page.locator('a[href="tel:3114"]').is_visible()
    shoot(page, "no-javascript")


def test_no_model_shows_the_reason_and_the_lines(app_without_model, open_page, shoot):
    page = open_page(app_without_model.url)
    enter(page)
    page.wait_for_function("() => document.querySelector('#status').innerText.includes('No AI answers')")
    assert shown_lines(page) == "GB", "DEFAULT_COUNTRY is preselected"
    send(page, "I had a long day.")
    settle(page)
    assert "116 123" in page.locator(REPLY).first.inner_text()
    shoot(page, "no-model")
    page.get_by_role("link", name="About the model").click()
    page.wait_for_selector("#model .checks .todo")
    assert "MODEL_ID" in page.locator("#model .checks").inner_text(), "the fix is not named"
    assert "To be done" in page.locator("#model .said").inner_text()
    shoot(page, "doctor")
    page.context.set_offline(True)
    page.get_by_role("button", name="Look again").click()
    page.get_by_text("The server does not answer now").wait_for()


@pytest.mark.parametrize("screen", SCREENS)
def test_dark_mode_is_readable(app, open_page, shoot, screen):
    page = open_page(app.url, screen, color_scheme="dark")
    enter(page)
    send(page, AT_RISK)
    settle(page)
    shoot(page, f"dark-{screen}")
    pairs = page.evaluate(
        """() => [...document.querySelectorAll('#help a, #help p, #help small, #bar p, #chat .bot.message p')]
            .filter(e => e.offsetParent).slice(0, 40).map(e => {
                let box = e, back = 'rgba(0, 0, 0, 0)';
                for (; box && back === 'rgba(0, 0, 0, 0)'; box = box.parentElement)
                    back = getComputedStyle(box).backgroundColor;
                return [getComputedStyle(e).color, back]; })"""
    )
    assert pairs and all(contrast(*pair) >= 4.5 for pair in pairs), [pair for pair in pairs if contrast(*pair) < 4.5]


def contrast(front, back):
    """WCAG 2.2 contrast ratio of two CSS colours."""

    def luminance(colour):
        channels = [int(float(part)) / 255 for part in re.findall(r"[\d.]+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(front), luminance(back)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
