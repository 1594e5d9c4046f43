// What the browser keeps between visits: the conversation and the sampling settings. The API key is kept for the tab only.
const TURNS = "mindcoder.conversation", SETTINGS = "mindcoder.settings", KEY = "mindcoder.key";
const ROLES = ["user", "assistant"];

export const DEFAULTS = { temperature: "0", top_p: "1", top_k: "0", repetition_penalty: "1", max_tokens: "", seed: "", system: "" };

export function loadTurns() {
  const kept = read(localStorage, TURNS);
  const whole = Array.isArray(kept) && kept.every((turn, index) => turn?.role === ROLES[index % 2] && typeof turn.content === "string");
  return whole ? kept.map(({ role, content }) => ({ role, content })) : [];
}

export function saveTurns(turns) {
  write(localStorage, TURNS, turns);
}

export function clearTurns() {
  forget(localStorage, TURNS);
}

export function loadSettings() {
  const kept = read(localStorage, SETTINGS) ?? {}, settings = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS)) if (typeof kept[name] === "string") settings[name] = kept[name];
  return settings;
}

export function saveSettings(settings) {
  write(localStorage, SETTINGS, settings);
}

export function loadKey() {
  const kept = read(sessionStorage, KEY);
  return typeof kept === "string" ? kept : null;
}

export function saveKey(key) {
  write(sessionStorage, KEY, key);
}

// A browser may forbid storage, or have no room left: then nothing is kept.
function read(storage, name) {
  try {
    return JSON.parse(storage.getItem(name));
  } catch {
    return null;
  }
}

function write(storage, name, value) {
  try {
    storage.setItem(name, JSON.stringify(value));
  } catch {
    forget(storage, name);
  }
}

function forget(storage, name) {
  try {
    storage.removeItem(name);
  } catch {
    // there is none
  }
}
