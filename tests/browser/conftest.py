"""Debian's chromium, driven by Playwright, on a desktop and on a phone. Screenshots go to screenshots/ to be looked at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Chromium asks its maker's servers for updates and the like at every start; nothing here may leave the machine.
ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SCREENS = {
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine; install it with: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium) -> Iterator:
    """open_page(url, screen="desktop", **context options) -> a page that collects its faults in `page.faults`."""
    contexts = []

    def open_one(url: str, screen: str = "desktop", **options):
        context = chromium.new_context(**SCREENS[screen], locale="en-US", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.faults, page.foreign = [], []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("request", lambda request: page.foreign.append(request.url) if not _own(request.url, url) else None)
        page.goto(url)
        return page

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture
def shoot(request):
    folder = ROOT / "screenshots"
    folder.mkdir(exist_ok=True)

    def one(page, name: str) -> None:
        page.screenshot(path=folder / f"{name}.png")

    return one


def _own(asked: str, url: str) -> bool:
    return asked.startswith((url, "data:", "blob:"))
