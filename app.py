"""The Space: layout, wiring, endpoints. No decision is taken here: every word comes through support.conversation.respond.

    python app.py            (or `make run`, which installs first)

Knows nothing about models, rules or replies. The help panel is plain HTML put into the page as it is served, so that it
is there before any script, model or queue, and without them.
"""

# pyright: reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# (Gradio makes its event methods at run time, so their types are not there to be checked)

import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import spaces  # noqa: F401  # before torch touches CUDA, as ZeroGPU needs it
import gradio as gr
from gradio.components.chatbot import ChatbotDataMessages
from starlette.middleware import Middleware
from starlette.routing import Route

from support import conversation, engines, page, replies, screening
from support import crisis_lines as lines
from support.conversation import BadRequest, Reply
from support.engines import GenerationParams
from support.settings import Settings, SettingsError

TITLE = "LLM-Assisted Mental Health Support"
WAITING = "_Reading your message…_"
WAITING_FOR_MODEL = "_The model is still loading. This can take a minute. The help panel works already._"
OPENERS = ("opener_stress", "opener_lonely", "opener_fight", "opener_sleep")

log = logging.getLogger("app")


def _translated() -> gr.I18n:
    """For Gradio's parts: WORDS("chat.start") is resolved in the browser. Gradio 6.31 has no Italian: it stays English there."""
    chat = {
        language: {key: text for key, text in page.words(language).items() if key.startswith("chat.")}
        for language in page.LANGUAGES
    }
    return gr.I18n(**chat, **{"zh-CN": chat.get("zh", {})})  # Gradio's name for it


WORDS = _translated()


def build(settings: Settings, engine: engines.Engine) -> gr.Blocks:
    """The page and the endpoints, for an engine that may still be loading."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 600)) as demo:
        gr.Markdown(str(WORDS("chat.masthead")), elem_id="masthead")
        with gr.Walkthrough(selected=0) as steps:
            with gr.Step(WORDS("chat.about"), id=0):
                _consent(demo, steps)
            with gr.Step(WORDS("chat.name"), id=1):
                _chat(demo, settings, engine)
        _endpoints(settings, engine)
    return demo


def _consent(demo: gr.Blocks, steps: gr.Walkthrough) -> None:
    """Before the chat, and again seven days after (Utah 13-72a); the browser keeps the date and nothing else of it."""
    gr.Markdown(str(WORDS("chat.consent")))
    adult = gr.Checkbox(label=WORDS("chat.adult"), elem_id="agree")
    support = gr.Checkbox(label=WORDS("chat.support"), elem_id="agree-support")
    start = gr.Button(WORDS("chat.start"), variant="primary", interactive=False, elem_id="start")
    # In the browser alone: neither a full queue nor a busy server keeps anyone from the next step.
    both = "(adult, support) => ({__type__: 'update', interactive: adult && support})"
    gr.on([adult.change, support.change], None, [adult, support], start, js=both)
    start.click(None, None, steps, js="() => { consent.give(); return {__type__: 'update', selected: 1}; }")
    demo.load(None, None, steps, js="() => ({__type__: 'update', ...(consent.isFresh() ? {selected: 1} : {})})")


def _chat(demo: gr.Blocks, settings: Settings, engine: engines.Engine) -> None:
    status = gr.Markdown(elem_id="status")
    chatbot = gr.Chatbot(
        label="Chat with an AI",
        show_label=False,
        height="48vh",
        min_height=260,
        buttons=["copy"],
        editable="user",
        allow_tags=False,
        watermark=page.words("en")["chat.mark"],
        placeholder=str(WORDS("chat.begin")),
        elem_id="chat",
    )
    with gr.Row(elem_id="openers"):  # CSS shows them while the chat is empty
        openers = [gr.Button(WORDS(f"chat.{name}"), elem_id=name, size="sm", min_width=120) for name in OPENERS]
    message = gr.Textbox(
        label=WORDS("chat.message"),
        placeholder=str(WORDS("chat.message_hint")),
        lines=1,
        max_lines=6,
        submit_btn="Send",
        stop_btn=False,
        elem_id="message",
    )
    gr.Markdown(str(WORDS("chat.note")), elem_classes="reminder")
    with gr.Accordion(WORDS("chat.why"), open=False):
        receipt = gr.JSON(show_label=False, value={})
    with gr.Accordion(WORDS("chat.advanced"), open=False):
        defaults = GenerationParams()
        max_new_tokens = gr.Slider(16, 1024, settings.max_new_tokens, step=16, label="Longest reply (tokens)")
        temperature = gr.Slider(
            0, 2, defaults.temperature, step=0.05, label="Temperature (0: always the likeliest words)"
        )
        top_p = gr.Slider(0.05, 1, defaults.top_p, step=0.05, label="Top-p")

    country = gr.Textbox(visible=False)
    given = [message, chatbot, country, max_new_tokens, temperature, top_p]
    shown = [message, chatbot, receipt]

    def talk(text: Any, earlier: Any, country: str, *params: Any) -> Iterator[tuple]:
        earlier = _turns(earlier)
        chat = [*earlier, {"role": "user", "content": text if isinstance(text, str) else ""}]
        yield gr.Textbox(value="", submit_btn=False, stop_btn=True), [*chat, _sign_of_life(engine)], {}
        replied = conversation.respond(text, earlier, country, engine=engine, params=GenerationParams.clamped(*params))
        for reply in replied:
            turn = _shown(reply) if reply.text else _sign_of_life(engine)
            yield gr.skip(), [*chat, turn], _why(reply)
        yield _ready_to_send(), gr.skip(), gr.skip()

    def retry(event: gr.RetryData, chat: Any, country: str, *params: Any) -> Iterator[tuple]:
        turns = _turns(chat)
        yield from talk(turns[event.index]["content"], turns[: event.index], country, *params)

    def edit(event: gr.EditData, chat: Any, country: str, *params: Any) -> Iterator[tuple]:
        yield from talk(event.value, _turns(chat)[: event.index], country, *params)

    def choice(event: gr.SelectData, chat: Any, country: str, *params: Any) -> Iterator[tuple]:
        yield from talk(event.value, chat, country, *params)

    # preprocess=False: the handlers take what a page sends as it is, and _turns checks it.
    private: dict[str, Any] = {
        "api_visibility": "private",
        "concurrency_limit": None,
        "show_progress": "hidden",
        "preprocess": False,
    }
    answers = [
        message.submit(talk, given, shown, js=_with_country(2), **private),
        chatbot.retry(retry, given[1:], shown, js=_with_country(1), **private),
        chatbot.edit(edit, given[1:], shown, js=_with_country(1), **private),
        *(button.click(talk, given, shown, js=_with_country(2, says=button.elem_id), **private) for button in openers),
        chatbot.option_select(choice, given[1:], shown, js=_with_country(1), **private),
    ]
    # Cancelling closes respond's iterator, and that ends the model's writing within one token.
    message.stop(_stopped, chatbot, [message, chatbot], cancels=answers, **{**private, "queue": False})
    chatbot.undo(_undone, chatbot, [message, chatbot], **{**private, "queue": False})
    chatbot.clear(
        lambda: (_ready_to_send(), {}), None, [message, receipt], cancels=answers, **{**private, "queue": False}
    )

    # Asked once a page, and again while that may change. The timer first: what changes in between leaves it running.
    timer = gr.Timer(1.5)
    gr.on(
        [demo.load, timer.tick],
        lambda: (_ask_again(engine), _status(engine)),
        None,
        [timer, status],
        **private,
    )


def _endpoints(settings: Settings, engine: engines.Engine) -> None:
    """What programs call: the Gradio client, plain HTTP, and MCP. Stateless: the history comes with each call."""
    params = GenerationParams(max_new_tokens=settings.max_new_tokens)

    def chat(
        message: str, history: list[dict[str, Any]] | None = None, country: str = ""
    ) -> tuple[str, dict[str, Any]]:  # pyright: ignore[reportInvalidTypeForm]
        """Supportive answer to one message, streamed as it passes the safety gate. Not for emergencies: give the person
        the crisis lines that come with it.

        Args:
            message: what the person wrote.
            history: earlier turns, oldest first, each {"role": "user" or "assistant", "content": text}.
            country: two-letter country code of the person, for their crisis lines; empty for international ones.

        Returns:
            the reply so far, as Markdown
            its receipt: source, level, category, evidence, what was withheld, model, crisis lines
        """
        for reply in conversation.respond(message, history, country, engine=engine, params=params):
            yield reply.text, reply.receipt  # type: ignore[misc]  # Gradio reads the type of one item from the signature

    def screen(message: str, history: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """What a message, after its history, says about risk. Screening can miss things; it is not an assessment of a person.

        Args:
            message: what the person wrote.
            history: earlier turns, oldest first, each {"role": "user" or "assistant", "content": text}.

        Returns:
            level (0 none, 1 distress, 2 at risk, 3 imminent), category, evidence (rule ids), rules_version
        """
        try:
            assessment = conversation.assess(message, history)
        except BadRequest as bad:
            raise gr.Error(str(bad), print_exception=False) from bad
        return {
            "level": assessment.level,
            "category": assessment.category,
            "evidence": list(assessment.evidence),
            "carried": assessment.carried,
            "rules_version": conversation.rules_version(),
        }

    def crisis_lines(country: str = "") -> list[dict[str, Any]]:
        """Crisis lines of a country: name, how to call, text or chat, hours, and when the number was last verified.

        Args:
            country: two-letter country code such as US; unknown or empty gives international directories.

        Returns:
            the lines, best first
        """
        return lines.lines_for(country if isinstance(country, str) else "")

    def health() -> dict[str, Any]:
        """Whether the parts work: the model, the screening rules, the classifiers, the crisis lines, the reply texts.

        Returns:
            status (ok, or degraded when a part does not work), and each part's state
        """
        model, problems = engine.describe(), _problems()
        return {
            "status": "degraded" if problems or model["status"] == "unavailable" else "ok",
            "model": model,
            "rules_version": conversation.rules_version(),
            **{part: learned.state()["status"] for part, learned in screening.LEARNED.items()},
            "problems": problems,
        }

    for function in (chat, screen, crisis_lines, health):
        gr.api(function, concurrency_limit=None)


def _problems() -> dict[str, str]:
    """Part -> what is wrong with it; empty where nothing is. Also loads rules, lines and texts, so that no message waits."""
    parts = {
        "crisis_lines": lines.problem(),
        "interface": page.problem(),
        "replies": replies.problem(),
        "screening": screening.problem(),
        **{part: learned.state()["problem"] for part, learned in screening.LEARNED.items()},
    }
    return {part: problem for part, problem in parts.items() if problem}


def _sign_of_life(engine: engines.Engine) -> dict[str, str]:
    return {"role": "assistant", "content": WAITING_FOR_MODEL if _loading(engine) else WAITING}


def _shown(reply: Reply) -> dict[str, Any]:
    """A reply as a turn of the page's chat, with what the person may answer as buttons under it."""
    options = [{"label": words, "value": words} for words in reply.receipt["choices"]]
    return {"role": "assistant", "content": reply.text, **({"options": options} if options else {})}


def _turns(chat: Any) -> list:
    """The page's chat as turns of plain text, without signs of life."""
    try:
        turns = conversation.read_history(chat)
    except BadRequest as bad:
        raise gr.Error(str(bad), print_exception=False) from None
    return [turn for turn in turns if turn["content"] not in (WAITING, WAITING_FOR_MODEL)]


def _ready_to_send() -> gr.Textbox:
    return gr.Textbox(submit_btn="Send", stop_btn=False)


def _stopped(chat: Any) -> tuple[gr.Textbox, list]:
    return _ready_to_send(), _turns(chat)


def _undone(event: gr.UndoData, chat: Any) -> tuple[gr.Textbox, list]:
    turns = _turns(chat)
    return gr.Textbox(value=turns[event.index]["content"], submit_btn="Send", stop_btn=False), turns[: event.index]


def _why(reply: Reply) -> dict[str, Any]:
    """The receipt without the lines: the panel beside it shows those."""
    return {key: value for key, value in reply.receipt.items() if key != "crisis_lines"}


def _with_country(position: int, says: str = "") -> str:
    """JavaScript that puts the help panel's country among an event's inputs, and first the words of the button `says`."""
    words = f"given[0] = document.getElementById('{says}').innerText; " if says else ""
    country = f"given[{position}] = document.getElementById('help-country')?.value ?? ''; "
    return f"(...given) => {{ {words}{country}return given; }}"


def _loading(engine: engines.Engine) -> bool:
    return engine.describe()["status"] == "loading"


def _ask_again(engine: engines.Engine) -> gr.Timer:
    """The page's timer: soon while the model loads, now and then while servers are away, else never: a model that could not
    be loaded stays so, and pages that go on asking keep a Space from going to sleep."""
    described = engine.describe()
    away = described["status"] == "unavailable" and described["device"] == "remote"
    return gr.Timer(5 if away else 1.5, active=away or described["status"] == "loading")


def _status(engine: engines.Engine) -> str:
    """Which model answers, and what does not work, in plain sentences."""
    off = [learned.name for learned in screening.LEARNED.values() if learned.state()["status"] == "off"]
    without = f'<span class="problem">Off: {", ".join(off)}. The rules work.</span> ' if off else ""
    return without + _model(engine)


def _model(engine: engines.Engine) -> str:
    described = engine.describe()
    if described["status"] == "loading":
        return "The model is loading. The help panel works already."
    if described["status"] == "unavailable":
        return f'<span class="problem">No model answers now.</span> {described["problem"]} The help panel works.'
    adapter = f", with the adapter {described['adapter']}" if described["adapter"] else ""
    kind = " It is a **small demonstration model**: it makes mistakes, and it shows the product, not its quality."
    precision = f" ({described['quantization']}, {described['device']})" if described["quantization"] else ""
    return f"Answers come from {described['model']}{adapter}{precision}.{kind if described['demonstration'] else ''}"


def launch_options(settings: Settings) -> dict[str, Any]:
    """Gradio's defaults that keep or send what people write are off; see README, "Privacy"."""
    return {
        "server_name": settings.host,
        "server_port": settings.port,
        "run_history": False,
        "enable_monitoring": False,
        "pwa": False,
        "ssr_mode": False,
        "share": False,
        "mcp_server": True,
        "footer_links": ["api"],
        "max_threads": 100,
        "app_kwargs": {
            "middleware": [Middleware(page.AroundGradio, html=page.help_panel(settings) + page.tools(TITLE))],
            "routes": [Route("/safety", page.protocol), Route("/interface/{language}.json", page.interface)],
        },
        "i18n": WORDS,
        "theme": gr.themes.Soft(primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"]),
        "quiet": False,
    }


def _warm() -> None:
    for learned in screening.LEARNED.values():
        learned.warm()


def _keep_words_out_of_errors() -> None:
    """Gradio checks a chat before any handler does, and prints what does not fit, words and all, into the log."""
    ChatbotDataMessages.model_config["hide_input_in_errors"] = True
    ChatbotDataMessages.model_rebuild(force=True)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "bitsandbytes", "mcp"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        raise SystemExit(f"Configuration: {error}") from None
    for part, problem in _problems().items():
        log.error("%s: %s Help is shown in its place.", part, problem)
    screening.import_libraries()
    threading.Thread(target=_warm, name="classifiers", daemon=True).start()
    _keep_words_out_of_errors()
    demo = build(settings, engines.start(settings))
    demo.queue(max_size=None, default_concurrency_limit=None)
    demo.launch(**launch_options(settings))


if __name__ == "__main__":
    main()
