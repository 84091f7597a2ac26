"""The tools beside the chat: each works with no server, keeps what it holds in the browser alone, and can be left at once."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.browser

ROOMS = ("breathe", "ground", "thought", "mood", "check", "plan", "sheet", "draft", "data")
VIEWS = (*ROOMS, "model")  # with the one that asks about the server
WORDS = "a marked word: zebrafish"


@pytest.fixture
def page(app_without_model, open_page):
    """The page, loaded, with the server out of reach: nothing below may need it. `page.asked` are the requests made since."""
    page = open_page(app_without_model.url)
    page.locator("#start").wait_for()
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.context.set_offline(True)
    yield page
    assert not page.faults


def enter(page, room):
    page.locator(f'#bar nav [data-room="{room}"]').click()
    page.locator(f"#{room}").wait_for()
    return page.locator(f"#{room}")


def said(place):
    return place.locator(".said").first.inner_text()


def saved(page, press):
    with page.expect_download() as download:
        press.click()
    return download.value.path().read_text(encoding="utf-8")


def test_every_tool_opens_alone_and_asks_the_server_for_nothing(page, shoot):
    for room in ROOMS:
        enter(page, room)
        assert page.locator(".room:visible").count() == 1 and not page.locator("gradio-app").is_visible()
        assert page.evaluate("document.activeElement.id") == room, "a reader is told where it is"
        shoot(page, f"tool-{room}")
    page.locator('#bar nav [data-room="chat"]').click()
    assert page.locator("gradio-app").is_visible() and page.locator("#help").is_visible()
    assert not [url for url in page.asked if not url.startswith("data:")]


def test_a_phone_shows_them_without_a_sideways_scroll(app_without_model, open_page, shoot):
    page = open_page(app_without_model.url, "phone")
    for room in ROOMS:
        enter(page, room)
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, room
    shoot(page, "tool-data-phone")
    page.set_viewport_size({"width": 320, "height": 640})
    for room in ROOMS:
        enter(page, room)
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, room


def test_breathing_starts_and_stops(page):
    room = enter(page, "breathe")
    room.get_by_role("button", name="Start").click()
    assert said(room) == "Breathe in" and "in" in room.locator(".circle").get_attribute("class").split()
    page.wait_for_function("document.querySelector('#breathe .said').textContent === 'Hold'", timeout=6_000)
    room.get_by_role("button", name="Stop").click()
    assert said(room).startswith("Press Start")


def test_grounding_goes_through_the_senses_and_begins_again(page):
    room = enter(page, "ground")
    button, seen = room.locator("button"), []
    for _ in range(6):
        button.click()
        seen.append(said(room))
    assert [text.split()[0] for text in seen] == ["Five", "Four", "Three", "Two", "One", "You"]
    assert button.inner_text() == "Again"


def test_after_a_deleted_record_the_keyboard_goes_on_from_the_next(page):
    room = enter(page, "thought")
    for thought in ("first", "second"):
        room.locator("[name=thought]").fill(thought)
        room.get_by_role("button", name="Save").click()
    answering(page)
    for focused in ("SUMMARY", "DIV"):
        room.locator("summary").last.click()
        room.locator("details button").last.click()
        assert page.evaluate("document.activeElement.tagName") == focused


def test_a_thought_record_is_listed_and_deleted(page):
    room = enter(page, "thought")
    room.locator("[name=thought]").fill(WORDS)
    room.locator("[name=situation]").fill("the bus was late <b>again</b>")
    room.get_by_role("button", name="Save").click()
    room.locator("summary").click()
    assert WORDS in room.locator("details p").inner_text() and "<b>again</b>" in room.locator("details p").inner_text()
    assert room.locator("[name=thought]").input_value() == ""
    page.once("dialog", lambda dialog: dialog.dismiss())
    room.locator("details button").click()
    assert room.locator("details").count() == 1, "only after a yes"
    asked = answering(page)
    room.locator("details button").click()
    assert room.locator("details").count() == 0 and said(room) == "This is deleted from this browser."
    assert asked == ["Delete this from this browser? It cannot be brought back."]


class Questions(list):
    """What the page asks from now on; answered with yes or no."""

    yes = True

    def __call__(self, dialog):
        self.append(dialog.message)
        dialog.accept() if self.yes else dialog.dismiss()


def answering(page, yes=True):
    asked = Questions()
    asked.yes = yes
    page.on("dialog", asked)
    return asked


def test_what_is_deleted_is_called_what_it_is(page):
    asked = answering(page)
    record = enter(page, "thought")
    record.locator("[name=thought]").fill(WORDS)
    record.get_by_role("button", name="Delete").click()
    assert said(record) == "The form is empty now." and record.locator("[name=thought]").input_value() == ""
    plan = enter(page, "plan")
    plan.locator("[name=signs]").fill(WORDS)
    plan.get_by_role("button", name="Delete").click()
    assert said(plan) == "The form is empty now." and not asked
    plan.locator("[name=signs]").fill(WORDS)
    plan.get_by_role("button", name="Save").click()
    plan.get_by_role("button", name="Delete").click()
    assert said(plan) == "This is deleted from this browser." and kept(page) == {}
    assert asked == ["Delete this from this browser? It cannot be brought back."]


def test_a_mood_is_one_point_a_day(page):
    room = enter(page, "mood")
    room.get_by_role("button", name="Low", exact=True).click()
    room.get_by_role("button", name="Good", exact=True).click()
    assert room.locator("circle").count() == 1 and "1 days noted" in room.locator("svg").get_attribute("aria-label")
    assert [entry["value"] for entry in kept(page)["mood"]] == [4], "the last one of the day counts"


def kept(page):
    return json.loads(page.evaluate("localStorage.getItem('support-tools') ?? '{}'"))


def answer(form, name, values):
    for number, value in enumerate(values, 1):
        form.locator(f'[name="{name}{number}"][value="{value}"]').check()
    form.locator("button").click()


@pytest.mark.parametrize(
    ("name", "values", "result"),
    [
        ("phq", [0] * 9, "0 of 27: minimal"),
        ("phq", [1, 1, 1, 1, 1, 1, 1, 2, 0], "9 of 27: mild"),
        ("phq", [3, 3, 3, 3, 3, 3, 2, 0, 0], "20 of 27: severe"),
        ("gad", [1, 2, 1, 2, 1, 2, 1], "10 of 21: moderate"),
        ("gad", [3] * 7, "21 of 21: severe"),
    ],
)
def test_a_self_check_is_scored_as_its_authors_do(page, name, values, result):
    form = enter(page, "check").locator(f'[data-check="{name}"]')
    form.locator("button").click()
    assert "every question" in said(form) and "check" not in kept(page)
    answer(form, name, values)
    assert said(form).startswith(result) and "no diagnosis" in said(form)
    assert "raised" not in (page.locator("#help").get_attribute("class") or "")


def test_the_ninth_question_raises_the_help_panel(page):
    form = enter(page, "check").locator('[data-check="phq"]')
    form.locator('[name="phq9"][value="1"]').check()
    form.locator("button").click()
    assert "raised" in page.locator("#help").get_attribute("class"), "also where other questions are open"
    assert page.evaluate("document.activeElement.id") == "help-lines"
    assert "deserve a person" in said(form)


def test_help_now_is_on_every_view_and_leads_to_the_lines(page):
    for room in (*ROOMS, "chat"):
        page.locator(f'#bar nav [data-room="{room}"]').click()
        page.locator("#need-help").click()
        assert page.evaluate("document.activeElement.id") == "help-lines", room
        assert page.locator("#help-lines a[href^=tel]").locator("visible=true").count() > 0


def test_the_raised_panel_is_lowered_again(page):
    page.locator("#need-help").click()
    page.keyboard.press("Escape")
    assert page.locator("#help.raised").count() == 0
    page.locator("#need-help").click()
    page.locator("#tools, gradio-app").locator("visible=true").first.click(position={"x": 5, "y": 5})
    assert page.locator("#help.raised").count() == 0


@pytest.mark.parametrize("room", ROOMS)
def test_a_page_opened_at_a_tool_works(app_without_model, open_page, room):
    page = open_page(f"{app_without_model.url}#{room}")
    neutral(page)
    page.locator(f"#{room}").wait_for()
    assert not page.faults
    page.locator("#leave").click()
    page.wait_for_url("https://www.wikipedia.org/**")


def test_a_plan_prints_whole_and_alone(page):
    room = enter(page, "plan")
    room.locator("[name=people]").fill("\n".join(f"person {i}" for i in range(30)))
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    field = room.locator("[name=people]")
    assert field.evaluate("field => field.scrollHeight <= field.clientHeight + 2")
    assert not page.locator("#help").is_visible() and not page.locator("#bar").is_visible()
    assert room.is_visible() and not room.get_by_role("button", name="Save").is_visible()


def test_what_one_tab_deletes_another_does_not_bring_back(app_without_model, open_page):
    page = open_page(app_without_model.url)
    enter(page, "sheet").locator("[name=what]").fill(WORDS)
    page.locator("#sheet").get_by_role("button", name="Save").click()
    other = page.context.new_page()
    other.goto(app_without_model.url)
    enter(other, "data")
    other.once("dialog", lambda dialog: dialog.accept())
    other.locator("#data").get_by_role("button", name="Delete everything").click()
    page.wait_for_function("document.querySelector('#sheet-what').value === ''")
    enter(page, "mood").get_by_role("button", name="Good", exact=True).click()
    assert "sheet" not in kept(page) and len(kept(page)["mood"]) == 1


def test_what_is_half_written_stays_whatever_another_tab_keeps(app_without_model, open_page):
    page = open_page(app_without_model.url)
    for name, field in (("plan", "signs"), ("thought", "thought")):
        enter(page, name).locator(f"[name={field}]").fill(WORDS)
    other = page.context.new_page()
    other.goto(app_without_model.url)
    enter(other, "mood").get_by_role("button", name="Good", exact=True).click()
    other.evaluate("localStorage.setItem('unrelated', '1')")
    enter(page, "mood")
    page.wait_for_function("document.querySelectorAll('#mood-plot .point').length === 1")  # it has heard of it
    for name, field in (("plan", "signs"), ("thought", "thought")):
        assert enter(page, name).locator(f"[name={field}]").input_value() == WORDS


def test_the_chat_and_the_safety_protocol_print(app_without_model, open_page):
    page = open_page(app_without_model.url)
    page.locator("#agree").wait_for()
    page.emulate_media(media="print")
    assert "116 123" in page.locator("body").inner_text() and page.locator("#agree").is_visible()
    page.emulate_media(media="screen")
    chat(page, "I want to kill myself")
    page.emulate_media(media="print")
    assert page.locator("#chat .user.message").is_visible() and page.locator("#chat .bot.message").is_visible()
    assert page.locator("#help-lines a[href^=tel]").locator("visible=true").count() > 0
    assert not page.locator("#message").is_visible()
    page.goto(f"{app_without_model.url}/safety")
    page.emulate_media(media="print")
    assert "Safety protocol" in page.locator("body").inner_text()


def test_a_page_at_four_times_its_size_can_be_read(app_without_model, open_page):
    """WCAG 2.2, 1.4.10: at 320 by 256 pixels nothing that stays in view covers the rest."""
    page = open_page(app_without_model.url, "phone")
    page.set_viewport_size({"width": 320, "height": 256})
    room = enter(page, "plan")
    field = room.locator("[name=people]")
    field.focus()
    box = field.bounding_box()
    at = [box["x"] + box["width"] / 2, min(250, box["y"] + 10)]
    assert page.evaluate("([x, y]) => document.elementFromPoint(x, y)?.name", at) == "people"
    page.evaluate("scrollTo(0, 700)")
    strips = "document.elementsFromPoint(160, y).some((part) => part.closest('#help, #bar'))"
    assert page.evaluate(f"Array.from({{length: 256}}, (_, y) => y).filter((y) => {strips})") == []


@pytest.mark.parametrize("language", ["en", "de", "ja"])
def test_what_has_the_focus_is_not_under_the_strips_of_a_phone(app_without_model, open_page, language):
    """WCAG 2.2, 2.4.11, also where the words of a language take more lines."""
    page = open_page(f"{app_without_model.url}?lang={language}", "phone")
    page.wait_for_function(
        "language => document.querySelector('#tools').lang === language || language === 'en'", arg=language
    )
    room = enter(page, "plan")
    room.locator("button").last.focus()
    page.keyboard.press("Shift+Tab")
    under = """() => {
      const field = document.activeElement, {x, y, width, height} = field.getBoundingClientRect();
      const at = document.elementFromPoint(x + width / 2, y + height / 2);
      return field.closest("#plan") && !(at === field || field.contains(at)) ? field.outerHTML : "";
    }"""
    while page.evaluate("document.activeElement.name") != "signs":
        page.keyboard.press("Shift+Tab")
        assert page.evaluate(under) == ""
        # so that the next one is above what is in view
        page.evaluate("scrollTo(0, document.activeElement.getBoundingClientRect().top + scrollY - 20)")


def chat(page, text):
    page.locator("#agree input").check()
    page.locator("#agree-support input").check()
    page.locator("#start:not([disabled])").click()
    page.locator("#message textarea").fill(text)
    page.keyboard.press("Enter")
    page.locator("#chat .bot.message").wait_for()


def test_without_storage_the_page_works_and_says_that_nothing_is_kept(app_without_model, chromium):
    page = chromium.new_context(locale="en-US").new_page()
    page.add_init_script(NO_STORAGE)
    page.goto(app_without_model.url)
    room = enter(page, "plan")
    room.locator("[name=signs]").fill(WORDS)
    room.get_by_role("button", name="Save").click()
    assert "keeps nothing" in said(room)
    data = enter(page, "data")
    data.locator("#data-wipe").check()
    assert "keeps nothing" in data.locator("> .said").inner_text()
    load(page, {"mood": [{"day": "2026-01-01", "value": 3, "note": ""}]}, until="keeps nothing")
    page.locator("#help-country").select_option("MX")
    page.reload()
    page.wait_for_function("document.querySelector('#help-country').value === 'GB'")
    page.context.close()


NO_STORAGE = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('denied'); }})"


def test_without_storage_the_chosen_language_stands_in_the_address(app_without_model, open_page):
    page = open_page("about:blank")
    page.add_init_script(NO_STORAGE)
    page.goto(f"{app_without_model.url}#plan")
    for language, title in (("es", "Plan de seguridad"), ("zh", "安全计划"), ("en", "Safety plan")):
        page.locator("#language").select_option(language)
        page.wait_for_url(f"**/?lang={language}#plan")
        page.get_by_role("heading", name=title).wait_for()
        assert page.locator("#language").input_value() == language
    page.goto(f"{app_without_model.url}?lang=xx")
    assert page.locator("#language").input_value() == "en" and not page.faults


def test_a_kept_language_takes_the_place_of_the_address(app_without_model, open_page):
    page = open_page(f"{app_without_model.url}?lang=es#plan")
    page.get_by_role("heading", name="Plan de seguridad").wait_for()
    page.locator("#language").select_option("de")
    page.get_by_role("heading", name="Notfallplan").wait_for()
    assert "lang=" not in page.url and kept(page)["language"] == "de"


def test_the_chosen_country_stays(app_without_model, open_page):
    page = open_page(app_without_model.url)
    shown = page.locator("#help-lines .help-lines").locator("visible=true")
    assert shown.get_attribute("data-country") == "GB" and "country" not in kept(page), "the default"
    page.locator("#help-country").select_option("MX")
    page.reload()
    assert shown.get_attribute("data-country") == "MX"
    page.locator("#language").select_option("es")
    page.get_by_role("heading", name="¿Necesitas ayuda ahora?").wait_for()
    assert shown.get_attribute("data-country") == "MX"
    data = enter(page, "data")
    assert "Tu país: México" in data.locator("#data-shown").inner_text()
    answering(page)
    data.locator('[data-do="delete-all"]').click()
    assert kept(page) == {}
    page.locator("#help-country").select_option("")  # another country: a choice as well
    page.reload()
    assert shown.get_attribute("data-country") == ""


def test_a_draft_takes_the_name(page):
    room = enter(page, "draft")
    room.locator("#draft-to").fill("Sam")
    room.locator(".sentence").nth(1).click()
    assert room.locator("#draft-text").input_value().startswith("Hi Sam, could you call me")
    room.locator(".sentence").nth(0).click()
    assert room.locator("#draft-text").input_value().startswith("Hi Sam, I have not been"), "one gives way to another"


def test_a_suggested_sentence_replaces_no_words_of_ones_own(page):
    room = enter(page, "draft")
    text = room.locator("#draft-text")
    text.fill(WORDS)
    room.locator(".sentence").nth(1).click()
    assert text.input_value().startswith(f"{WORDS}\nHi …, could you call me")
    text.fill("")
    room.locator(".sentence").nth(1).click()
    text.press("End")
    text.press_sequentially(" Please.")
    room.locator(".sentence").nth(2).click()
    first, second = text.input_value().split("\n")
    assert first.endswith("with this. Please.") and second.startswith("Hi …, there is something")


def test_a_copy_that_fails_says_so(page):
    page.evaluate("navigator.clipboard.writeText = () => Promise.reject(); document.execCommand = () => false")
    room = enter(page, "draft")
    room.locator("#draft-text").fill(WORDS)
    room.get_by_role("button", name="Copy").click()
    page.wait_for_function("document.querySelector('#draft .said').textContent.startsWith('Could not copy.')")


def load(page, content, until):
    page.evaluate("document.querySelector('#data > .said').textContent = ''")
    page.locator("#data-import").set_input_files(
        {"name": "x.json", "mimeType": "application/json", "buffer": json.dumps(content).encode()}
    )
    page.wait_for_function("text => document.querySelector('#data > .said').textContent.includes(text)", arg=until)


def test_a_file_replaces_another_plan_only_after_a_yes(page):
    plan, mood = {"signs": "from the file"}, [{"day": "2026-01-01", "value": 3, "note": ""}]
    written = enter(page, "plan").locator("[name=signs]")
    written.fill(WORDS)
    page.locator("#plan").get_by_role("button", name="Save").click()
    enter(page, "sheet").locator("[name=what]").fill("half-written")
    enter(page, "data")
    asked = answering(page, yes=False)
    load(page, {"plan": plan, "sheet": {"what": "from the file"}, "mood": mood}, until="2 entries")
    assert [question.partition(":")[0] for question in asked] == ["Safety plan", "Sheet for a helper"]
    assert kept(page)["plan"]["signs"] == written.input_value() == WORDS
    assert kept(page)["mood"] == mood and "sheet" not in kept(page), "the lists are added"
    assert page.locator("#sheet-what").input_value() == "half-written"

    load(page, {"plan": kept(page)["plan"]}, until="2 entries")
    assert len(asked) == 2, "the same one is no other one"
    asked.yes = True
    load(page, {"plan": plan}, until="2 entries")
    assert kept(page)["plan"] == plan and written.input_value() == "from the file"


def test_what_is_kept_survives_and_is_shown_exported_imported_and_deleted(app_without_model, open_page):
    page = open_page(app_without_model.url)
    plan = enter(page, "plan")
    plan.locator("[name=signs]").fill(WORDS)
    plan.get_by_role("button", name="Save").click()
    page.reload()
    assert enter(page, "plan").locator("[name=signs]").input_value() == WORDS
    data = enter(page, "data")
    assert WORDS in data.locator("#data-shown").inner_text()
    exported = saved(page, data.get_by_role("button", name="Save as a file"))
    assert json.loads(exported)["plan"]["signs"] == WORDS
    assert WORDS in saved(page, data.get_by_role("button", name="Save as text"))

    other = open_page(app_without_model.url)
    room = enter(other, "data")
    for wrong in ("{", "[]", "{}", '{"plan": 3}', '{"other": {}}', '{"mood": [{"a": {"b": 1}}]}'):
        room.locator("#data-import").set_input_files(
            {"name": "x.json", "mimeType": "application/json", "buffer": wrong.encode()}
        )
        other.wait_for_function("document.querySelector('#data > .said').textContent.includes('not saved by')")
        assert kept(other) == {}
    room.locator("#data-import").set_input_files(
        {"name": "x.json", "mimeType": "application/json", "buffer": exported.encode()}
    )
    other.wait_for_function("document.querySelector('#data > .said').textContent.includes('1 entries')")
    assert enter(other, "plan").locator("[name=signs]").input_value() == WORDS

    room = enter(other, "data")
    other.once("dialog", lambda dialog: dialog.dismiss())
    room.get_by_role("button", name="Delete everything").click()
    assert kept(other)["plan"], "only after a yes"
    other.once("dialog", lambda dialog: dialog.accept())
    room.get_by_role("button", name="Delete everything").click()
    assert other.evaluate("localStorage.getItem('support-tools')") is None
    assert enter(other, "plan").locator("[name=signs]").input_value() == ""


def test_no_request_carries_what_is_written_in_a_tool(app_without_model, open_page):
    page = open_page(app_without_model.url)
    sent = []
    page.on("request", lambda request: sent.append(request.url + (request.post_data or "")))
    for room, field in (("thought", "[name=thought]"), ("plan", "[name=people]"), ("sheet", "[name=what]")):
        place = enter(page, room)
        place.locator(field).fill(WORDS)
        place.get_by_role("button", name="Save").click()
    enter(page, "draft").locator("#draft-text").fill(WORDS)
    enter(page, "mood").locator("#mood-note").fill(WORDS)
    page.locator('[data-mood="2"]').click()
    page.locator('#bar nav [data-room="chat"]').click()
    page.locator("#agree input").check()
    page.locator("#agree-support input").check()
    page.locator("#start:not([disabled])").click()
    page.locator("#message textarea").fill("Hello there.")
    page.keyboard.press("Enter")
    page.wait_for_timeout(1_500)
    assert sent and not [request for request in sent if "zebrafish" in request]
    page.reload()
    page.locator("#message textarea").wait_for(state="visible")
    assert not [request for request in sent if "zebrafish" in request]


def neutral(page):
    page.route(
        re.compile(r"https://www\.wikipedia\.org/.*"), lambda route: route.fulfill(body="<title>Neutral</title>")
    )


@pytest.mark.parametrize("by", ["button", "keys"])
def test_leaving_goes_to_a_neutral_page_and_back_does_not_return(app_without_model, open_page, by):
    page = open_page("about:blank")
    neutral(page)
    page.goto(app_without_model.url)
    enter(page, "plan").locator("[name=signs]").fill(WORDS)
    page.locator("#plan").get_by_role("button", name="Save").click()
    if by == "button":
        page.locator("#leave").click()
    else:
        for _ in range(3):
            page.keyboard.press("Shift")
    page.wait_for_url("https://www.wikipedia.org/**")
    page.go_back()
    assert page.url == "about:blank", "the entry of the chat was replaced"
    page.goto(app_without_model.url)
    assert kept(page)["plan"], "an accident costs no safety plan"
    enter(page, "data").locator("#data-wipe").check()
    page.locator("#leave").click()
    page.wait_for_url("https://www.wikipedia.org/**")
    page.goto(app_without_model.url)
    assert kept(page) == {"wipe": True}, "the wish itself stays, for the next time"


# What huggingface.co lets the frame of a Space do: it may open pages, and may not move the page around it.
AROUND = (
    '<!doctype html><title>around</title><iframe src="{}" width="1200" height="760" sandbox="allow-downloads allow-forms '
    'allow-modals allow-popups allow-popups-to-escape-sandbox allow-same-origin allow-scripts"></iframe>'
)


@pytest.fixture
def space():
    """A page of another origin around the address in its query; on loopback, for browsers guard that from other places."""

    class Around(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(AROUND.format(self.path.partition("?")[2]).encode())

        def log_message(self, *_): ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Around)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_leaving_a_spaces_frame_opens_a_neutral_page_and_empties_the_frame(app_without_model, chromium, space):
    context = chromium.new_context(locale="en-US", viewport={"width": 1280, "height": 800})
    neutral(context)
    around = context.new_page()
    around.goto(f"{space}/?{app_without_model.url}")
    frame = around.frame_locator("iframe")
    frame.locator('#bar nav [data-room="data"]').click()
    assert frame.locator("#direct a").inner_text().startswith(app_without_model.url), "the direct address is offered"
    with context.expect_page() as opened:
        frame.locator("#leave").click()
    opened.value.wait_for_url("https://www.wikipedia.org/**")
    around.wait_for_timeout(1_000)
    frames = [inner.url for inner in around.frames]
    assert all(inner.partition("?")[0].rstrip("/#") != app_without_model.url for inner in frames), frames
    context.close()


def test_two_shifts_or_typing_capitals_do_not_leave(page):
    field = enter(page, "sheet").locator("[name=what]")
    field.press_sequentially("ABC Abc")
    for _ in range(2):
        page.keyboard.press("Shift")
    page.keyboard.press("a")
    page.keyboard.press("Shift")
    page.wait_for_timeout(300)
    assert page.locator("#sheet").is_visible()


@pytest.mark.parametrize("language", sorted(path.stem for path in (ROOT / "assets" / "interface").glob("*.yaml")))
def test_the_tools_speak_the_browsers_language(app_without_model, chromium, language):
    import yaml

    words = yaml.safe_load((ROOT / "assets" / "interface" / f"{language}.yaml").read_text(encoding="utf-8"))
    context = chromium.new_context(locale={"zh": "zh-CN"}.get(language, language))
    page = context.new_page()
    page.goto(app_without_model.url)
    page.wait_for_function(
        "title => document.querySelector('#plan-title').textContent === title", arg=words["plan"]["title"]
    )
    assert page.locator("#need-help").inner_text() == words["bar"]["help"]
    assert page.locator("#help h2").inner_text() == words["help"]["title"]
    assert page.locator("#help").inner_text().count(words["help"]["website"]) > 0
    if language != "it":  # which Gradio 6.31 does not have
        assert page.locator("#agree label").inner_text().strip() == words["chat"]["adult"], "Gradio's parts too"
    if language != "en":
        direction = "rtl" if language == "ar" else "ltr"
        assert page.locator("#tools").get_attribute("dir") == direction
        assert page.locator("#agree").evaluate("part => getComputedStyle(part).direction") == direction
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    context.close()


@pytest.mark.parametrize("language", ["es", "ar", "zh"])
def test_another_language_than_the_browsers_can_be_chosen(app_without_model, open_page, shoot, language):
    import yaml

    words = yaml.safe_load((ROOT / "assets" / "interface" / f"{language}.yaml").read_text(encoding="utf-8"))
    page = open_page(app_without_model.url, "phone")
    assert page.locator("#language").input_value() == "en"
    page.locator("#language").select_option(language)
    page.get_by_text(words["help"]["title"], exact=True).wait_for()
    page.get_by_text(words["chat"]["adult"], exact=True).wait_for()  # Gradio's parts too
    assert page.locator("#language").input_value() == language
    shoot(page, f"language-{language}")
    page.reload()  # it is remembered in this browser
    page.get_by_text(words["help"]["title"], exact=True).wait_for()
    assert page.evaluate("store.get('language')") == language and not page.faults


def test_a_language_is_not_changed_under_a_chat_unasked(app_without_model, open_page):
    page = open_page(app_without_model.url)
    page.locator("#agree input").check()
    page.locator("#agree-support input").check()
    page.locator("#start:not([disabled])").click()
    page.locator("#message textarea").fill("I want to kill myself")
    page.keyboard.press("Enter")
    page.locator("#chat .bot.message").wait_for()
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.locator("#language").select_option("es")
    assert "starts anew" in asked[0] and page.locator("#language").input_value() == "en"
    assert page.locator("#chat .bot.message").count() == 1


def test_consent_is_remembered_for_seven_days_by_its_date_alone(app_without_model, open_page):
    page = open_page(app_without_model.url)
    page.locator("#agree input").check()
    assert page.locator("#start").is_disabled(), "each of the two is asked for"
    page.locator("#agree-support input").check()
    page.locator("#start:not([disabled])").click()
    page.locator("#message textarea").wait_for(state="visible")
    assert re.fullmatch(r"\{\"consent\":\"\d{4}-\d\d-\d\d\"\}", page.evaluate("localStorage.getItem('support-tools')"))
    page.reload()
    page.locator("#message textarea").wait_for(state="visible")
    week_ago = "JSON.stringify({consent: new Date(Date.now() - 8 * 864e5).toISOString().slice(0, 10)})"
    page.evaluate(f"localStorage.setItem('support-tools', {week_ago})")
    page.reload()
    page.locator("#agree input").wait_for()
    page.wait_for_timeout(1_000)
    assert not page.locator("#message textarea").is_visible()


def test_every_three_hours_the_page_says_that_an_ai_answers(app_without_model, chromium):
    page = chromium.new_context(locale="en-US").new_page()
    page.clock.install()
    page.goto(app_without_model.url)
    reminder = page.locator("#reminder")
    page.clock.fast_forward("02:58:00")
    assert not reminder.is_visible()
    for _ in range(2):
        page.clock.fast_forward("03:01:00")
        reminder.wait_for()
        assert "An AI answers here" in reminder.inner_text()
        reminder.get_by_role("button").click()
        assert not reminder.is_visible()
    page.context.close()
