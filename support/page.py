"""The plain HTML around Gradio's part of the page: the help panel, the tools, and pages of text.

    page = AroundGradio(app, html=help_panel(settings) + tools())

It is there before any script, model or queue, and without them. Words stand in assets/interface, one file a language: the page is
served in English, and its script puts the words of the browser's language in their places.

Knows nothing about Gradio, engines or screening.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader
from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from support import crisis_lines as lines
from support import languages
from support.settings import Settings

ASSETS = Path(__file__).parent.parent / "assets"
LANGUAGES = sorted(path.stem for path in (ASSETS / "interface").glob("*.yaml"))


class Words(dict[str, str]):
    """Words by "group.name"; a key that is not there stands for itself, so that no fault in a file takes the page away."""

    def __missing__(self, key: str) -> str:
        return key


@cache
def _read(language: str) -> tuple[dict[str, str], str | None]:
    """The words of a file, and what is wrong with it."""
    try:
        groups = yaml.safe_load((ASSETS / "interface" / f"{language}.yaml").read_text(encoding="utf-8"))
        return {f"{group}.{name}": str(text) for group, names in groups.items() for name, text in names.items()}, None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        return {}, f"interface/{language}.yaml cannot be used ({type(error).__name__})."


def words(language: str) -> Words:
    """The words of a language, English where it lacks some."""
    return Words(_read("en")[0]) if language == "en" else Words({**_read("en")[0], **_read(language)[0]})


def problem() -> str | None:
    """What is wrong with the words' files; None where nothing is."""
    return " ".join(wrong for language in LANGUAGES if (wrong := _read(language)[1])) or None


def spoken(key: str, *given: str) -> Markup:
    """The English words of a key, marked so that the page's script can put another language's there."""
    text = words("en")[key] if key in words("en") else " ".join(given) or key  # a number is shown whatever is wrong
    for i, value in enumerate(given):
        text = text.replace(f"{{{i}}}", value)
    marks = Markup("").join(Markup(' data-t{}="{}"').format(i, value) for i, value in enumerate(given))
    return Markup('<span data-t="{}"{}>{}</span>').format(key, marks, text)


def _rendered(template: str, **values: Any) -> str:
    environment = Environment(loader=FileSystemLoader(ASSETS), autoescape=True)
    css = (ASSETS / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(t=spoken, words=words("en"), css=css, **values)


def help_panel(settings: Settings) -> bytes:
    """The help panel's HTML: every country's lines, of which CSS shows the chosen country's."""
    countries = [("", words("en")["help.another"]), *lines.countries()]
    return _rendered(
        "help_panel.html.j2",
        countries=countries,
        lines={code: lines.lines_for(code) for code, _ in countries},
        emergency={code: lines.emergency_numbers(code) for code, _ in countries},
        selected=settings.default_country,
    ).encode()


def tools() -> bytes:
    """The tools beside the chat, with their scripts: they ask the server for nothing but the words of another language."""
    questionnaires = yaml.safe_load((ASSETS / "tools" / "questionnaires.yaml").read_text(encoding="utf-8"))
    data = f"const WORDS = {json.dumps(words('en'))};\nconst QUESTIONNAIRES = {json.dumps(questionnaires)};\n"
    code = [(ASSETS / "tools" / name).read_text(encoding="utf-8") for name in ("store.js", "tools.js")]
    scripts = (data + "\n".join(code)).replace("</", "<\\/")  # no text may end the script
    wordmark = (ASSETS / "wordmark.svg").read_text(encoding="utf-8")
    values = {
        "wordmark": wordmark,
        "languages": languages.languages(),
        "questionnaires": questionnaires,
        "scripts": scripts,
    }
    return _rendered("tools/tools.html.j2", **values).encode()


def interface(request: Request) -> Response:
    """The words of the tools in another language, which the page asks for once as it opens."""
    language = request.path_params["language"]
    if language not in LANGUAGES:
        return JSONResponse({"error": f"one of {', '.join(LANGUAGES)}"}, status_code=404)
    return JSONResponse(words(language), headers={"Cache-Control": "max-age=86400"})


def protocol(_: Request) -> HTMLResponse:
    """assets/SAFETY_PROTOCOL.md as a page: what is detected, shown and not done."""
    text = (ASSETS / "SAFETY_PROTOCOL.md").read_text(encoding="utf-8")
    body = MarkdownIt("commonmark").enable("table").render(text)
    return HTMLResponse(_rendered("page.html.j2", title="Safety protocol", body=body))


class AroundGradio:
    """Puts the help panel and the tools at the top of the page's body, as plain HTML, before Gradio's scripts."""

    def __init__(self, app: ASGIApp, html: bytes) -> None:
        self._app, self._html = app, html

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        addresses = ("", scope.get("root_path", "").rstrip("/"))  # the page with and without a proxy's prefix
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"].rstrip("/") not in addresses:
            return await self._app(scope, receive, send)
        start: Message = {}
        body = b""

        async def insert(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            page = self._inserted(body)
            headers = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
            await send({**start, "headers": [*headers, (b"content-length", str(len(page)).encode())]})
            await send({"type": "http.response.body", "body": page})

        await self._app(scope, receive, insert)

    def _inserted(self, page: bytes) -> bytes:
        opening = page.find(b"<body")
        end = page.find(b">", opening) + 1
        return page if opening < 0 else page[:end] + self._html + page[end:]
