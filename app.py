"""The Space: layout, wiring, endpoints. No decision is taken here: every word comes through support.conversation.respond.

    python app.py            (or `make run`, which installs first)

Knows nothing about models, rules or replies. The help panel is plain HTML put into the page as it is served, so that it
is there before any script, model or queue, and without them.
"""

# pyright: reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# (Gradio makes its event methods at run time, so their types are not there to be checked)

import logging
import os
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Read with torch: threads that wait leave the cores to those that write.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import spaces  # noqa: F401  # before torch touches CUDA, as ZeroGPU needs it
import gradio as gr
from gradio.components.chatbot import ChatbotDataMessages
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from support import conversation, doctor, engines, page, screening
from support import crisis_lines as lines
from support.conversation import BadRequest, Reply
from support.engines import GenerationParams
from support.health import problems, report
from support.languages import language_of, texts_of_user
from support.metrics import Metrics
from support.settings import Settings, SettingsError

TITLE = "LLM-Assisted Mental Health Support"
FEEDBACK = ("Like", "Unsafe", "Not helpful")  # Gradio draws the first as a thumb, the others in a menu
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
SIGNS = ("chat.reading", "chat.model_loading", "chat.before_you")  # what stands where a reply will be
SIGN_OF_LIFE = re.compile(
    "|".join(
        f"_{re.escape(page.words(language)[sign])}_".replace(re.escape("{0}"), r"\d+")
        for language in page.LANGUAGES
        for sign in SIGNS
    )
)


class Page(gr.Blocks):
    """Gradio's, but for a call with too few inputs: Gradio prints those that it got, a person's words, into the log."""

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        needed = len(block_fn.inputs)
        if len(inputs) < needed:
            raise gr.Error(
                f'{block_fn.name} takes {needed} inputs and got {len(inputs)}; give them all in "data": '
                '[] is an empty history, "" no country.',
                print_exception=False,
            )


def build(settings: Settings, engine: engines.Places, metrics: Metrics) -> gr.Blocks:
    """The page and the endpoints, for an engine that may still be loading."""
    with Page(title=TITLE, analytics_enabled=False, delete_cache=(600, 600)) as demo:
        with gr.Walkthrough(selected=0) as steps:
            with gr.Step(WORDS("chat.about"), id=0):
                _consent(demo, steps)
            with gr.Step(WORDS("chat.name"), id=1):
                _chat(demo, settings, engine, metrics)
        _endpoints(settings, engine, metrics)
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
    start.click(None, None, steps, js="() => { consent.give(); toChat(); return {__type__: 'update', selected: 1}; }")
    demo.load(None, None, steps, js="() => ({__type__: 'update', ...(consent.isFresh() ? {selected: 1} : {})})")


def _chat(demo: gr.Blocks, settings: Settings, engine: engines.Places, metrics: Metrics) -> None:
    chatbot = gr.Chatbot(
        label="Chat with an AI",
        show_label=False,
        height="48vh",
        min_height=260,
        buttons=["copy"],
        editable="user",
        feedback_options=FEEDBACK,
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
        submit_btn=WORDS("chat.send"),
        stop_btn=False,
        elem_id="message",
    )
    gr.Markdown(str(WORDS("chat.note")), elem_classes="reminder")
    with gr.Accordion(WORDS("chat.why"), open=False, elem_id="why-part") as why:
        gr.HTML('<p id="why" role="status"></p>')
        receipt = gr.JSON(show_label=False, value={})
    with gr.Accordion(WORDS("chat.advanced"), open=False):
        defaults = GenerationParams()
        max_new_tokens = gr.Slider(16, 1024, settings.max_new_tokens, step=16, label=WORDS("chat.longest"))
        temperature = gr.Slider(0, 2, defaults.temperature, step=0.05, label=WORDS("chat.temperature"))
        top_p = gr.Slider(0.05, 1, defaults.top_p, step=0.05, label=WORDS("chat.top_p"))

    country = gr.Textbox(visible=False)
    given = [message, chatbot, country, max_new_tokens, temperature, top_p]
    shown = [message, chatbot, receipt]

    nothing_new = (gr.skip(),) * len(shown)
    writing: dict[str | None, object] = {}  # page -> its reply that is being written

    def talk(request: gr.Request, text: Any, earlier: Any, country: str, *params: Any) -> Iterator[tuple]:
        page, mine = request.session_hash, object()
        said = text if isinstance(text, str) else ""
        if page in writing and not said.strip():  # Enter in an empty box
            yield nothing_new
            return
        writing[page] = mine  # in the place of one that is still being written: what is sent meanwhile may be urgent
        try:
            earlier = _turns(earlier)
            chat = [*earlier, {"role": "user", "content": said}]
            yield gr.Textbox(value="", submit_btn=False, stop_btn=True), [*chat, _sign_of_life(engine, chat)], {}
            place, sampling = engine.for_visitor(f"page {page}"), GenerationParams.clamped(*params)
            seen = None
            for reply in metrics.counted(conversation.respond(text, earlier, country, engine=place, params=sampling)):
                if writing.get(page) is not mine:
                    yield nothing_new
                    return
                turn = _shown(reply) if reply.text else _sign_of_life(engine, chat, reply.receipt["queue"])
                # Nothing again that stands there: it could reach the page after Stop, and would stand there for good.
                yield (gr.skip(), [*chat, turn], _why(reply)) if turn != seen else nothing_new
                seen = turn
            yield _ready_to_send(), gr.skip(), gr.skip()
        finally:
            if writing.get(page) is mine:
                del writing[page]

    def stopped(request: gr.Request, chat: Any) -> tuple:
        writing.pop(request.session_hash, None)
        return _ready_to_send(), _turns(chat)

    def undone(request: gr.Request, event: gr.UndoData, chat: Any) -> tuple:
        writing.pop(request.session_hash, None)
        turns = _turns(chat)
        return _ready_to_send(value=turns[event.index]["content"]), turns[: event.index]

    def cleared(request: gr.Request) -> tuple:
        writing.pop(request.session_hash, None)
        return _ready_to_send(), {}

    def deleted(request: gr.Request) -> tuple:
        writing.pop(request.session_hash, None)
        return _ready_to_send(value=""), [], {}

    def retry(request: gr.Request, event: gr.RetryData, chat: Any, country: str, *params: Any) -> Iterator[tuple]:
        turns = _turns(chat)
        yield from talk(request, turns[event.index]["content"], turns[: event.index], country, *params)

    def edit(request: gr.Request, event: gr.EditData, chat: Any, country: str, *params: Any) -> Iterator[tuple]:
        yield from talk(request, event.value, _turns(chat)[: event.index], country, *params)

    def choice(request: gr.Request, event: gr.SelectData, chat: Any, country: str, *params: Any) -> Iterator[tuple]:
        yield from talk(request, event.value, chat, country, *params)

    def rate(event: gr.LikeData, chat: Any, before: Any) -> list:
        rating = FEEDBACK[0] if event.liked is True else event.liked
        rated = [event.index, rating]
        # Gradio 6.31 sends each word of the menu twice, and "" for no rating.
        if rating in FEEDBACK and rated != before:
            metrics.rate(rating)
            gr.Info(page.words(language_of(texts_of_user(_turns(chat))))["chat.thanks"])
        return rated

    # preprocess=False: the handlers take what a page sends as it is, and _turns checks it.
    private: dict[str, Any] = {
        "api_visibility": "private",
        "concurrency_limit": None,
        "show_progress": "hidden",
        "preprocess": False,
    }
    answers = [
        message.submit(talk, given, shown, js=_with_country(2), trigger_mode="multiple", **private),
        chatbot.retry(retry, given[1:], shown, js=_with_country(1), **private),
        chatbot.edit(edit, given[1:], shown, js=_with_country(1), **private),
        *(button.click(talk, given, shown, js=_with_country(2, says=button.elem_id), **private) for button in openers),
        chatbot.option_select(choice, given[1:], shown, js=_with_country(1), **private),
    ]
    rated = gr.State(None)
    chatbot.like(rate, [chatbot, rated], rated, **{**private, "concurrency_limit": 1})
    # The help panel rises where there is risk.
    receipt.change(None, receipt, None, js="(receipt) => showReceipt(receipt)")
    # Again, for what is closed is not in the page.
    why.expand(None, receipt, None, js="(receipt) => setTimeout(showReceipt, 100, receipt)")
    # Cancelling closes respond's iterator, and that ends the model's writing within one token.
    at_once: dict[str, Any] = {**private, "queue": False}
    message.stop(stopped, chatbot, [message, chatbot], cancels=answers, **at_once)
    chatbot.undo(undone, chatbot, [message, chatbot], cancels=answers, **at_once)
    chatbot.clear(cleared, None, [message, receipt], cancels=answers, **at_once)
    # Pressed by "Delete everything", which stands on the page of the data.
    everything = gr.Button(visible="hidden", elem_id="clear-chat")
    everything.click(deleted, None, shown, cancels=answers, **at_once)


def _endpoints(settings: Settings, engine: engines.Places, metrics: Metrics) -> None:
    """What programs call: the Gradio client, plain HTTP, and MCP. Stateless: the history comes with each call."""
    params = GenerationParams(max_new_tokens=settings.max_new_tokens)

    def chat(
        request: gr.Request, message: str, history: list[dict[str, Any]] | None = None, country: str = ""
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
        place = engine.for_visitor(f"address {_address(request)}")
        for reply in metrics.counted(conversation.respond(message, history, country, engine=place, params=params)):
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
        return report(engine, metrics)

    for function in (chat, screen, crisis_lines, health):
        gr.api(function, concurrency_limit=None)


def _address(request: gr.Request) -> str:
    """Where a program calls from; behind a proxy what that says."""
    forwarded = request.headers.get("x-forwarded-for", "").partition(",")[0].strip()
    return forwarded or (request.client.host if request.client else "")


def _sign_of_life(engine: engines.Places, chat: list, position: int | None = None) -> dict[str, str]:
    """What stands where the reply will be, in the person's language."""
    words = page.words(language_of(texts_of_user(chat)))
    if engine.describe()["status"] == "loading":
        sign = words["chat.model_loading"]
    else:
        sign = words["chat.before_you"].format(position) if position else words["chat.reading"]
    return {"role": "assistant", "content": f"_{sign}_"}


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
    return [turn for turn in turns if turn["role"] == "user" or not SIGN_OF_LIFE.fullmatch(turn["content"])]


def _ready_to_send(**value: str) -> gr.Textbox:
    return gr.Textbox(**value, submit_btn=WORDS("chat.send"), stop_btn=False)


def _why(reply: Reply) -> dict[str, Any]:
    """The receipt without the lines: the panel beside it shows those."""
    return {key: value for key, value in reply.receipt.items() if key != "crisis_lines"}


def _with_country(position: int, says: str = "") -> str:
    """JavaScript that puts the help panel's country among an event's inputs, and first the words of the button `says`."""
    words = f"given[0] = document.getElementById('{says}').innerText; " if says else ""
    country = f"given[{position}] = document.getElementById('help-country')?.value ?? ''; "
    return f"(...given) => {{ {words}{country}return given; }}"


def launch_options(settings: Settings, engine: engines.Places, metrics: Metrics) -> dict[str, Any]:
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
        "favicon_path": page.ASSETS / "favicon.svg",
        "footer_links": ["api"],
        "max_threads": 100,  # more than the replies that engines.Places takes in hand: help never waits for a thread
        "app_kwargs": {
            "middleware": [Middleware(page.AroundGradio, html=page.help_panel(settings) + page.tools())],
            "routes": [
                Route("/safety", page.protocol),
                Route("/interface/{language}.json", page.interface),
                Route("/health", lambda _: JSONResponse(report(engine, metrics))),
                Route("/doctor", lambda _: JSONResponse([asdict(check) for check in doctor.checks(settings, engine)])),
                Route("/metrics", metrics.page),
            ],
        },
        "i18n": WORDS,
        "theme": gr.themes.Soft(primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"]),
        "quiet": False,
    }


def _load_screening(done: threading.Event) -> None:
    """`done` once nothing is imported any more: where two threads import transformers at once, that fails."""
    try:
        for part, problem in problems().items():
            log.error("%s: %s Help is shown in its place.", part, problem)
        screening.import_libraries()
    finally:
        done.set()
    for learned in screening.LEARNED.values():
        learned.warm()


def _keep_words_out_of_errors() -> None:
    """Gradio checks a chat before any handler does, and prints what does not fit, words and all, into the log."""
    ChatbotDataMessages.model_config["hide_input_in_errors"] = True
    ChatbotDataMessages.model_rebuild(force=True)


def serve(settings: Settings, engine: engines.Engine, **options: Any) -> gr.Blocks:
    """The app around an engine, listening; `options` are more of Gradio's `launch`."""
    metrics = Metrics(settings.metrics == "on")
    places = engines.Places(metrics.timed(engine), settings.visitor_limit, seconds=settings.reply_seconds)
    metrics.watch(places)
    demo = build(settings, places, metrics)
    demo.queue(max_size=None, default_concurrency_limit=None)
    demo.launch(**launch_options(settings, places, metrics), **options)
    return demo


def _check_address(settings: Settings) -> None:
    """Where nothing can listen, Gradio would name variables of its own, under a traceback."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.port), family=family).close()
    except OSError:
        raise SystemExit(
            f"Configuration: nothing can listen on {settings.host}, port {settings.port}; set PORT to one that is free, or "
            "HOST to an address of this machine, such as 127.0.0.1 or 0.0.0.0."
        ) from None


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "bitsandbytes", "mcp"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        raise SystemExit(f"Configuration: {error}") from None
    _check_address(settings)
    _keep_words_out_of_errors()
    # The page with its help first, alone: what loads takes the processor and Python's lock from it.
    for learned in screening.LEARNED.values():
        learned.promise()
    imported = threading.Event()
    demo = serve(settings, engines.start(settings, after=imported), prevent_thread_lock=True)
    threading.Thread(target=_load_screening, args=(imported,), name="screening", daemon=True).start()
    demo.block_thread()
    # At once: at an ordinary end Python stops its daemon threads where they are, and inside torch that aborts the process.
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
