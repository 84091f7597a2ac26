// What the tools keep: one object in this browser's localStorage, and nothing anywhere else.
// {consent: "2026-11-29", plan: {...}, sheet: {...}, thought: [{at, ...}], mood: [{day, value, note}], check: [{at, name, score}], wipe: bool}
const store = (() => {
  const KEY = "support-tools";
  const LISTS = ["thought", "mood", "check"], FORMS = ["plan", "sheet"];
  let kept = {};
  try { kept = JSON.parse(localStorage.getItem(KEY)) || {}; } catch { /* no storage, or not ours: begin empty */ }

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
    get: (name) => kept[name],
    set(name, value) { kept[name] = value; return write(); },
    add(name, row) { kept[name] = [...(kept[name] || []), row]; return write(); },
    remove(name) { delete kept[name]; return write(); },
    clear() { kept = {}; return write(); },
    size: () => [...FORMS.map((name) => (kept[name] ? 1 : 0)), ...LISTS.map((name) => (kept[name] || []).length)].reduce((a, b) => a + b, 0),
    json: () => JSON.stringify(kept, null, 2),
    // Takes over a file that this page saved; anything else is left alone. Returns whether it was one.
    load(text) {
      let given;
      try { given = JSON.parse(text); } catch { return false; }
      if (!given || typeof given !== "object" || Array.isArray(given)) return false;
      const known = Object.entries(given).every(([name, value]) =>
        (LISTS.includes(name) && Array.isArray(value) && value.every(isRow)) || (FORMS.includes(name) && isRow(value)) || (name === "wipe" && typeof value === "boolean") || (name === "consent" && typeof value === "string"));
      if (!known) return false;
      kept = { ...given, consent: kept.consent };  // what someone agreed to elsewhere was not agreed to here
      write();
      return true;
    },
  };
})();

// Whether someone agreed to the first step here within seven days: the day is kept, and nothing else of it.
const consent = {
  give: () => store.set("consent", new Date().toISOString().slice(0, 10)),
  isFresh: () => Date.now() - Date.parse(store.get("consent") ?? "") < 7 * 864e5,
};
