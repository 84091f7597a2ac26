// The tools beside the chat. They make no request: everything works once the page is there, with no server and no model. Only what
// is about the server (the words of another language, the state of the model) is asked of it.
(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const word = (key, ...given) => given.reduce((text, value, i) => text.replaceAll(`{${i}}`, value), WORDS[key] ?? key);
  const say = (place, text) => { one(".said", place).textContent = text; };
  const on = (action, handler) => all(`[data-do="${action}"]`).forEach((button) =>
    button.addEventListener("click", () => handler(button.closest(".room, form"), button)));
  const today = (shift = 0) => { const day = new Date(); day.setDate(day.getDate() - shift); return new Date(day - day.getTimezoneOffset() * 6e4).toISOString().slice(0, 10); };

  // --- Leaving quickly: first, so that no fault below takes it away ---
  // Replaces this page, so that "back" does not lead here. A frame may be forbidden to move the page around it, as a Space's is:
  // then a new page opens over it, and the frame empties.
  const NEUTRAL = "https://www.wikipedia.org/";
  function leave() {
    if (store.get("wipe")) store.clear();
    try { sessionStorage.clear(); } catch { /* none */ }
    document.documentElement.replaceChildren();
    document.title = "";
    if (window.top === window.self) return location.replace(NEUTRAL);
    try { window.top.location.replace(NEUTRAL); } catch { window.open(NEUTRAL, "_blank", "noopener"); }
    location.replace("about:blank");
  }
  one("#leave").addEventListener("click", leave);
  let presses = [];
  addEventListener("pointerdown", () => { presses = []; }, true);
  addEventListener("keydown", (event) => {
    if (event.key !== "Shift" || event.altKey || event.ctrlKey || event.metaKey) { presses = []; return; }
    if (event.repeat) return;
    presses = [...presses.filter((at) => event.timeStamp - at < 5000), event.timeStamp];
    if (presses.length === 3) leave();
  }, true);

  // --- Language: the browser's or the chosen one, where there are words for it. Asked once, as the page opens; then the page needs nothing more ---
  function speak(words, language) {
    Object.assign(WORDS, words);
    all("[data-t]").forEach((place) => { place.textContent = word(place.dataset.t, ...("t0" in place.dataset ? [place.dataset.t0] : [])); });
    all("[data-t-label]").forEach((place) => place.setAttribute("aria-label", word(place.dataset.tLabel)));
    all("#help, #bar, #tools, #reminder, gradio-app").forEach((part) => { part.lang = language; part.dir = language === "ar" ? "rtl" : "ltr"; });
    const countries = new Intl.DisplayNames([language], { type: "region" });
    all("#help-country option").forEach((option) => { option.textContent = option.value ? countries.of(option.value) : word("help.another"); });
    list(); drawMood(); showStatus(); showData();
  }
  // Gradio shows the words that ratings are sent by, in English, in a menu that it draws anew for each reply.
  const RATINGS = { Unsafe: "chat.unsafe", "Not helpful": "chat.not_helpful" };
  ["pointerover", "focusin"].forEach((sign) => addEventListener(sign, ({ target }) => {
    const menu = target.closest?.(".extra-feedback");
    if (menu) all(".extra-feedback-option", menu).forEach((option) => { const key = RATINGS[option.textContent.trim()]; if (key) option.textContent = word(key); });
  }));
  const language = (navigator.language || "en").split("-")[0].toLowerCase();
  const languages = one("#language");
  const shown = [...languages.options].some(({ value }) => value === language) ? language : "en";
  languages.value = shown;
  languages.addEventListener("change", () => {
    const written = one("#chat .message") || all("textarea").some((box) => box.value);
    const goOn = !written || confirm(word("bar.language_anew"));
    if (!goOn) { languages.value = shown; return; }
    const address = new URL(location.href);
    if (store.set("language", languages.value)) address.searchParams.delete("lang");
    else address.searchParams.set("lang", languages.value);
    // Gradio reads its language once, as it begins.
    if (address.href === location.href) location.reload();
    else location.replace(address);
  });
  if (language !== "en") fetch(`interface/${language}.json`).then((got) => (got.ok ? got.json() : null)).then((words) => words && speak(words, language)).catch(() => { /* English stays */ });

  // --- Country: the one chosen here before stands for the browser's and the default, which the panel's script has set by now ---
  const country = one("#help-country");
  if ([...country.options].some(({ value }) => value === store.get("country"))) country.value = store.get("country");
  country.addEventListener("change", () => { store.set("country", country.value); showData(); });

  // --- Rooms: one is shown at a time, the chat being one of them ---
  const rooms = all(".room").map((room) => room.id);
  function enter(name, focus) {
    const room = rooms.includes(name) ? name : "chat";
    all(".room").forEach((section) => { section.hidden = section.id !== room; });
    document.body.dataset.room = room;
    all("#bar [data-room]").forEach((link) => (link.dataset.room === room ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current")));
    if (room === "data") showData();
    if (room === "model") examine();
    if (focus && room !== "chat") one(`#${room}`).focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
  all("#bar [data-room]").forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault();
    history.replaceState(null, "", `#${link.dataset.room}`);  // the way back leads out of the page, not through its rooms
    enter(link.dataset.room, true);
  }));

  // --- Help now: to the lines, without the server ---
  function raiseHelp() {
    const panel = one("#help");
    panel.classList.add("raised");
    one("#help-lines").focus();
    one("#help-lines").scrollIntoView({ block: "start" });
  }
  one("#need-help").addEventListener("click", raiseHelp);
  one(".skip-link").addEventListener("click", (event) => { event.preventDefault(); raiseHelp(); });  // no entry in the history
  one('[data-skip="chat"]').addEventListener("click", (event) => {
    event.preventDefault();
    enter("chat");
    all("#message textarea, #agree input").find((field) => field.offsetParent)?.focus();
  });
  // After the first step the focus would be lost: the message box takes it as soon as it is there.
  window.toChat = () => {
    const box = one("#message textarea");
    box?.offsetParent ? box.focus() : requestAnimationFrame(window.toChat);
  };
  addEventListener("keydown", (event) => { if (event.key === "Escape") one("#help").classList.remove("raised"); });
  addEventListener("pointerdown", (event) => { if (!event.target.closest("#help, #need-help")) one("#help").classList.remove("raised"); });

  // --- After each reply: where the receipt tells of risk, the panel is raised and a reader is told; the focus stays where it was ---
  window.showReceipt = (receipt) => {
    const risk = receipt?.level >= 2 || receipt?.carried;
    one("#help-risen").textContent = risk ? word("help.risen") : "";
    risk ? (document.body.dataset.risk = "") : delete document.body.dataset.risk;
    if (one("#why")) one("#why").textContent = receipt?.source ? why(receipt) : "";
  };
  function why({ source, withheld, level, carried, crisis_lines_checked_on: checked }) {
    const fixed = withheld.length ? "chat.why_withheld" : "chat.why_fixed";
    const risk = source === "template" && level >= 2 && !carried ? word("chat.why_risk") : "";
    return [word(source === "model" ? "chat.why_model" : fixed), risk, checked ? word("chat.why_lines", checked) : ""].filter(Boolean).join(" ");
  }

  // --- Which model answers: one line under the title, and a room with every part of this copy ---
  let health = null;
  function showStatus() {
    if (!health) return;
    const { status, model, demonstration } = health.model;
    const parts = { ready: [word("model.ready", model.split("/").at(-1)), demonstration ? word("model.demonstration") : ""], loading: [word("model.loading")], unavailable: [word("model.none")] };
    const off = [health.classifier, health.reply_classifier].includes("off") ? word("model.screening_off") : "";
    one("#status").textContent = [...parts[status], off].filter(Boolean).join(" ");
    one("#status").hidden = false;
    one("#status").classList.toggle("problem", status === "unavailable" || Boolean(off));
  }
  const ask = async (address) => { const got = await fetch(address); if (!got.ok) throw new Error(got.status); return got.json(); };
  async function follow() {
    try { health = await ask("health"); } catch { return; }
    showStatus();
    // Soon while the model loads, now and then while its servers are away. Else never: what could not be loaded stays so, and pages
    // that go on asking keep a Space from going to sleep.
    const { status, device } = health.model;
    if (status === "loading") setTimeout(follow, 1500);
    if (status === "unavailable" && device === "remote") setTimeout(follow, 5000);
  }
  follow();
  async function examine() {
    const room = one("#model");
    say(room, word("model.asking"));
    let checks;
    try { checks = await ask("doctor"); } catch { one(".checks", room).replaceChildren(); return say(room, word("model.offline")); }
    one(".checks", room).replaceChildren(...checks.map(({ name, ok, found, fix }) => {
      const item = document.createElement("li"), head = document.createElement("strong");
      item.className = ok ? "fine" : "todo";
      head.textContent = `${ok ? "✓" : "!"} ${name.replace("_", " ")}`;
      item.append(head, ` ${found} ${fix}`);
      return item;
    }));
    const open = checks.filter((check) => !check.ok).length;
    say(room, open ? word("model.todo", open) : word("model.fine"));
    follow();
  }
  on("check-again", examine);

  // --- Every three hours: that an AI answers (New York GBL 47, California SB 243) ---
  const HOURS = 3 * 36e5;
  let told = Date.now();
  setInterval(() => {
    if (Date.now() - told < HOURS) return;
    told = Date.now();
    one("#reminder").hidden = false;
    one("#reminder p").textContent = word("bar.reminder");  // put there now, so that it is read aloud
  }, 30_000);
  one("#reminder button").addEventListener("click", () => { one("#reminder").hidden = true; });

  // --- Breathing ---
  const PHASES = [["in", 4], ["hold", 2], ["out", 6]];
  let breathing = 0;
  on("breathe", (room, button) => {
    const circle = one(".circle", room);
    if (breathing) { clearTimeout(breathing); breathing = 0; circle.className = "circle"; button.textContent = word("common.start"); return say(room, word("breathe.ready")); }
    button.textContent = word("common.stop");
    const step = (i) => {
      const [phase, seconds] = PHASES[i % 3];
      circle.className = `circle ${phase}`;
      say(room, word(`breathe.${phase}`));
      breathing = setTimeout(step, seconds * 1000, i + 1);
    };
    step(0);
  });

  // --- Grounding ---
  let sense = -1;
  on("ground", (room, button) => {
    const senses = all(".senses li", room);
    sense = sense === senses.length ? -1 : sense + 1;
    senses.forEach((item, i) => { item.classList.toggle("now", i === sense); i === sense ? item.setAttribute("aria-current", "step") : item.removeAttribute("aria-current"); });
    say(room, sense === senses.length ? word("ground.end") : (senses[sense]?.textContent ?? ""));
    button.textContent = word(sense === senses.length ? "ground.again" : "ground.next");
  });

  // --- Forms: plan and sheet keep one text each, the thought record keeps a list ---
  const valuesOf = (form) => Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
  for (const form of all("[data-form]")) {
    const name = form.dataset.form, isList = name === "thought";
    const fill = (values) => [...form.elements].forEach((field) => { if (field.name) field.value = values[field.name] ?? ""; });
    if (!isList) fill(store.get(name) || {});
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const values = valuesOf(form);
      const empty = !Object.values(values).some(Boolean);
      if (empty && isList) return;
      const kept = isList ? store.add(name, { at: today(), ...values }) : empty ? store.remove(name) : store.set(name, values);
      before = JSON.stringify(store.get(name));
      say(form, word(kept ? "common.saved" : "common.not_saved"));
      if (isList && kept) { fill({}); list(); }
    });
    // Only where another text is kept than before: what somebody is writing stays.
    let before = JSON.stringify(store.get(name));
    form.addEventListener("show-kept", () => {
      const now = JSON.stringify(store.get(name));
      if (!isList && now !== before) fill(store.get(name) || {});
      before = now;
    });
    form.addEventListener("input", () => say(form, ""));
    one('[data-do="delete"]', form).addEventListener("click", () => {
      const isKept = !isList && store.get(name);
      if (isKept && !confirm(word("common.delete_sure"))) return;
      if (isKept) store.remove(name);
      before = JSON.stringify(store.get(name));
      fill({});
      say(form, word(isKept ? "common.deleted" : "common.cleared"));
    });
  }
  function list() {
    const place = one('[data-list="thought"]');
    const records = store.get("thought") || [];
    place.replaceChildren(...records.map((record, i) => {
      const item = document.createElement("details");
      const head = document.createElement("summary");
      head.textContent = `${record.at}: ${record.thought || record.situation || ""}`.slice(0, 90);
      const body = document.createElement("p");
      body.textContent = Object.entries(record).filter(([key, value]) => key !== "at" && value).map(([key, value]) => `${word(`thought.${key}`)}\n${value}`).join("\n\n");
      const away = document.createElement("button");
      away.type = "button";
      away.textContent = word("common.delete");
      away.addEventListener("click", () => {
        if (!confirm(word("common.delete_sure"))) return;
        store.set("thought", records.filter((_, other) => other !== i));
        list();
        (all("summary", place).at(Math.min(i, records.length - 2)) || place).focus();  // the next record, else the empty list
        say(one("#thought"), word("common.deleted"));
      });
      item.append(head, body, away);
      return item;
    }));
    if (!records.length) place.textContent = word("common.empty");
  }
  list();
  on("print", () => window.print());
  addEventListener("beforeprint", () => all("#tools textarea").forEach((field) => { field.style.height = `${field.scrollHeight}px`; }));
  addEventListener("afterprint", () => all("#tools textarea").forEach((field) => { field.style.height = ""; }));

  // --- Mood: one value a day, and a line of 30 days ---
  all("[data-mood]").forEach((button) => button.addEventListener("click", () => {
    const before = (store.get("mood") || []).find((entry) => entry.day === today());
    const others = (store.get("mood") || []).filter((entry) => entry !== before && entry.day !== today());
    const note = one("#mood-note").value.trim() || before?.note || "";
    const kept = store.set("mood", [...others, { day: today(), value: Number(button.dataset.mood), note }]);
    if (kept) one("#mood-note").value = "";
    say(one("#mood"), word(kept ? "common.saved" : "common.not_saved"));
    drawMood();
  }));
  function drawMood() {
    const shape = (tag, attributes) => { const made = document.createElementNS("http://www.w3.org/2000/svg", tag); Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value)); return made; };
    const days = Array.from({ length: 30 }, (_, i) => today(29 - i));
    const noted = new Map((store.get("mood") || []).map((entry) => [entry.day, entry.value]));
    const points = days.map((day, i) => [20 + i * 19.3, noted.get(day)]).filter(([, value]) => value).map(([x, value]) => [x, 150 - (value - 1) * 34]);
    one("#mood-plot").replaceChildren(
      ...[0, 1, 2, 3, 4].map((i) => shape("line", { x1: 20, x2: 580, y1: 150 - i * 34, y2: 150 - i * 34, class: "grid" })),
      shape("polyline", { points: points.map((point) => point.join(",")).join(" "), class: "trend" }),
      ...points.map(([cx, cy]) => shape("circle", { cx, cy, r: 5, class: "point" })),
    );
    one("#mood-plot").setAttribute("aria-label", `${word("mood.plot")}. ${word("mood.trend", points.length)}`);
  }
  drawMood();

  // --- Self-check ---
  all("[data-check]").forEach((form) => form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { questions, bands, crisis } = QUESTIONNAIRES[form.dataset.check];
    const answers = questions.map((_, i) => one(`[name="${form.dataset.check}${i + 1}"]:checked`, form)?.value);
    const atRisk = crisis && Number(answers[crisis - 1] ?? 0) > 0;
    if (answers.includes(undefined)) say(form, word("check.missing"));
    else {
      const score = answers.map(Number).reduce((a, b) => a + b, 0);
      const band = bands.filter(([from]) => score >= from).at(-1)[1];
      say(form, [word("check.result", score, questions.length * 3, band), word("check.meaning")].join(" "));
      const others = (store.get("check") || []).filter((entry) => entry.at !== today() || entry.name !== form.dataset.check);
      store.set("check", [...others, { at: today(), name: form.dataset.check, score }]);
    }
    if (atRisk) { one(".said", form).textContent += ` ${word("check.crisis")}`; raiseHelp(); }
  }));

  // --- A message to someone ---
  let suggested = "";  // a sentence gives way to another one; a person's own words stay
  all("[data-sentence]").forEach((button) => button.addEventListener("click", () => {
    const field = one("#draft-text"), own = field.value.trimEnd();
    const sentence = word(button.dataset.sentence, one("#draft-to").value.trim() || "…");
    field.value = own && own !== suggested ? `${own}\n${sentence}` : sentence;
    suggested = sentence;
    field.focus();
  }));
  on("copy", async (room) => {
    const field = one("#draft-text");
    field.select();
    let copied = true;
    try { await navigator.clipboard.writeText(field.value); } catch { copied = document.execCommand("copy"); }  // a frame may forbid the first
    say(room, copied ? word("common.copied") : word("common.not_copied"));
  });

  // --- My data ---
  const sections = () => {
    const lines = [];
    for (const name of ["plan", "sheet"]) if (store.get(name)) lines.push(`## ${word(`${name}.title`)}`, ...Object.entries(store.get(name)).filter(([, v]) => v).map(([key, value]) => `**${word(`${name}.${key}`)}**\n\n${value}`));
    const moods = ["very_low", "low", "so_so", "good", "very_good"];
    const told = {
      thought: ({ at, ...record }) => `**${at}**\n\n${Object.entries(record).filter(([, v]) => v).map(([key, value]) => `- ${word(`thought.${key}`)} ${value}`).join("\n")}`,
      mood: ({ day, value, note }) => `- ${day}: ${word(`mood.${moods[value - 1]}`)}${note ? `, ${note}` : ""}`,
      check: ({ at, name, score }) => `- ${at}: ${word(`check.${name}`)}: ${score}`,
    };
    for (const name of Object.keys(told)) if ((store.get(name) || []).length) lines.push(`## ${word(`bar.${name}`)}`, store.get(name).map(told[name]).join("\n"));
    return lines.join("\n\n");
  };
  function showData() {
    const agreed = store.get("consent") ? word("data.consent", store.get("consent")) : "";
    const chosen = store.get("language") ? `${word("bar.language")}: ${one("#language").selectedOptions[0].text}` : "";
    const lines = store.get("country") === undefined ? "" : `${word("help.country")}: ${country.selectedOptions[0].text}`;
    one("#data-shown").textContent = [agreed, chosen, lines, sections()].filter(Boolean).join("\n\n") || word("common.empty");
    one("#data-wipe").checked = store.get("wipe") === true;
  }
  function download(name, text, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
  function chatText() {
    document.body.dataset.room = "chat";  // for a moment: what is not shown has no line ends
    const turns = all("#chat .user.message, #chat .bot.message").map((turn) =>
      `${turn.classList.contains("user") ? "**Me**" : `**AI** (${word("data.chat_label")})`}\n\n${turn.innerText.trim()}`);
    document.body.dataset.room = "data";
    return turns.join("\n\n");
  }
  on("export-json", () => download("my-data.json", store.json(), "application/json"));
  on("export-markdown", () => download("my-data.md", `# ${word("data.title")}\n\n${sections()}\n`, "text/markdown"));
  on("export-chat", () => download("chat.md", `${chatText()}\n`, "text/markdown"));
  function showKept() {
    all("[data-form]").forEach((form) => form.dispatchEvent(new Event("show-kept")));
    list(); drawMood(); showData();
  }
  addEventListener("storage", ({ key }) => { if (key === store.KEY || key === null) showKept(); });  // another tab kept or deleted something
  one("#data-import").addEventListener("change", async (event) => {
    const file = event.target.files[0];
    if (!file) return;
    const loaded = store.load(await file.text(), mayPut);
    event.target.value = "";
    showKept();
    const what = { true: word("data.imported", store.size()), false: word("common.not_saved"), null: word("data.not_imported") };
    say(one("#data"), what[loaded]);
  });
  // Another plan or sheet, also a half-written one, is replaced only after a yes.
  function mayPut(name, value) {
    const mine = store.get(name) ?? valuesOf(one(`[data-form="${name}"]`));
    const isOther = Object.keys({ ...mine, ...value }).some((key) => String(mine[key] ?? "") !== String(value[key] ?? ""));
    return !isOther || !Object.values(mine).some(Boolean) || confirm(word("data.import_replaces", word(`${name}.title`)));
  }
  one("#data-wipe").addEventListener("change", (event) => say(one("#data"), store.set("wipe", event.target.checked) ? "" : word("common.not_saved")));
  on("delete-all", () => {
    if (!window.confirm(word("data.delete_sure"))) return;
    store.clear();
    all("[data-check], [data-form]").forEach((form) => { form.reset(); say(form, ""); });
    ["#draft-to", "#draft-text", "#mood-note"].forEach((field) => { one(field).value = ""; });
    one("#clear-chat")?.click();
    showKept();
    say(one("#data"), word("data.deleted"));
  });
  if (window.top !== window.self) {
    one("#direct").hidden = false;
    one("#direct a").href = one("#direct a").textContent = location.origin + location.pathname;
  }

  // The help panel stands under the bar, however many lines the words of a language take there; on a phone only its top stays in view.
  for (const [name, part] of [["--bar-height", one("#bar")], ["--top-height", one("#bar .top")]])
    new ResizeObserver(() => document.documentElement.style.setProperty(name, `${part.offsetHeight}px`)).observe(part);
  enter(location.hash.slice(1));
})();
