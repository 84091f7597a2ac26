"""axe-core on every view, light and dark, desktop and phone: no violation of any rule."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.test_page import AT_RISK, enter, send, settle
from tests.browser.test_tools import VIEWS
from tests.browser.test_tools import enter as enter_room

pytestmark = pytest.mark.browser


def violations(page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['target']} {node['html'][:120]}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize("screen", ["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_violation_on_any_view(app_without_model, open_page, scheme, screen, shoot):
    page = open_page(app_without_model.url, screen, color_scheme=scheme, reduced_motion="reduce")
    page.locator("#start").wait_for()
    # Gradio's own sign, which stands outside of its page
    page.wait_for_function("() => !document.querySelector('gradio-app .loading')")
    found = {"consent": violations(page)}
    for room in VIEWS:
        enter_room(page, room)
        found[room] = violations(page)
    page.locator('#bar nav [data-room="chat"]').click()
    enter(page)
    page.wait_for_timeout(500)
    found["chat"] = violations(page)
    shoot(page, f"chat-{scheme}-{screen}")
    send(page, AT_RISK)
    settle(page)
    found["crisis"] = violations(page)
    assert not any(found.values()), {view: list for view, list in found.items() if list}
