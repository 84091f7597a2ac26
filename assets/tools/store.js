// What the tools keep: one object in this browser's localStorage, and nothing anywhere else.
// {consent: "2026-11-29", wipe: true, language: "es", country: "MX", plan: {...}, sheet: {...}, thought: [{at, ...}], mood: [{day, value, note}], check: [{at, name, score}]}
const store = (() => {
  const KEY = "support-tools";
  const LISTS = ["thought", "mood", "check"], FORMS = ["plan", "sheet"];
  let kept = {};

  // Read before every use: another tab may have changed or deleted it.
  const read = () => {
    try { kept = JSON.parse(localStorage.getItem(KEY)) || {}; } catch { /* no storage here, or not ours: what this page holds counts */ }
    return kept;
  };
  const write = () => {
    try {
      if (Object.keys(kept).length) localStorage.setItem(KEY, JSON.stringify(kept));
      else localStorage.removeItem(KEY);
      return true;
    } catch { return false; }  // a private window, or full: the page still works, and says so
  };
  const isText = (value) => typeof value === "string" || typeof value === "number";
  const isRow = (row) => row && typeof row === "object" && !Array.isArray(row) && Object.values(row).every(isText);

  return {
    KEY,
    get: (name) => read()[name],
    set(name, value) { read(); kept[name] = value; return write(); },
    add(name, row) { read(); kept[name] = [...(kept[name] || []), row]; return write(); },
    remove(name) { read(); delete kept[name]; return write(); },
    // All but the wish to have it gone on leaving, which is about the next time.
    clear() { kept = read().wipe ? { wipe: true } : {}; return write(); },
    size: () => [...FORMS.map((name) => (read()[name] ? 1 : 0)), ...LISTS.map((name) => (kept[name] || []).length)].reduce((a, b) => a + b, 0),
    json: () => JSON.stringify(Object.fromEntries([...FORMS, ...LISTS].filter((name) => read()[name]).map((name) => [name, kept[name]])), null, 2),
    // Adds what is in a file that this page saved; a plan or sheet only where `mayPut(name, value)` says so. Returns whether it could
    // be kept; null where it is no such file, which is left alone.
    load(text, mayPut) {
      let given;
      try { given = JSON.parse(text); } catch { return null; }
      if (!given || typeof given !== "object" || !Object.keys(given).length) return null;
      const known = Object.entries(given).every(([name, value]) =>
        (LISTS.includes(name) && Array.isArray(value) && value.every(isRow)) || (FORMS.includes(name) && isRow(value)));
      if (!known) return null;
      const put = Object.entries(given).filter(([name, value]) => LISTS.includes(name) || mayPut(name, value));
      read();
      for (const [name, value] of put) {
        const rows = LISTS.includes(name) && new Map([...(kept[name] || []), ...value].map((row) => [JSON.stringify(row), row]));
        kept[name] = rows ? [...rows.values()] : value;
      }
      return write();
    },
  };
})();

// A language that someone chose here stands for the browser's, also for Gradio, whose scripts come after this one. Where nothing can
// be kept, the choice stands in the address.
{
  const asked = new URLSearchParams(location.search).get("lang");
  const known = [...document.querySelectorAll("#language option")].some(({ value }) => value === asked);
  const chosen = known ? asked : store.get("language");
  if (chosen) Object.defineProperty(navigator, "language", { get: () => ({ zh: "zh-CN" }[chosen] ?? chosen) });  // as Gradio names it
}

// Whether someone agreed to the first step here within seven days: the day is kept so long, and nothing else of it.
const consent = {
  give: () => store.set("consent", new Date().toISOString().slice(0, 10)),
  isFresh() {
    const age = Date.now() - Date.parse(store.get("consent") ?? "");
    const fresh = age >= 0 && age < 7 * 864e5;
    if (!fresh && store.get("consent")) store.remove("consent");
    return fresh;
  },
};
