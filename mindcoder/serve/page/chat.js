import { clearTurns, loadKey, loadSettings, loadTurns, saveKey, saveSettings, saveTurns } from "./conversation.js";
import { render } from "./markdown.js";

const at = (id) => document.getElementById(id);
const fields = [...document.querySelectorAll("#settings [name]")];
let turns = loadTurns(), key = loadKey(), running = null;

function headers() {
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function ask(path, options) {
  let response = await fetch(path, { ...options, headers: headers() });
  if (response.status === 401) {
    key = await askForKey();
    response = await fetch(path, { ...options, headers: headers() });
    if (response.ok) saveKey(key);
  }
  if (!response.ok) throw new Error(await problem(response));
  return response;
}

async function problem(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}

function askForKey() {
  const door = at("door");
  if (!door.open) door.showModal();
  return new Promise((given, refused) => {
    at("door-form").onsubmit = (event) => {
      event.preventDefault();
      door.onclose = null;
      door.close();
      given(at("key").value);
    };
    door.onclose = () => refused(new Error("an API key is needed"));
  });
}

function show({ role, content }) {
  const turn = document.createElement("div");
  turn.className = `turn ${role}`;
  if (role === "user") turn.textContent = content;
  else turn.append(render(content));
  at("turns").append(turn);
  turn.scrollIntoView({ block: "end" });
  return turn;
}

function say(turn, message) {
  const line = document.createElement("p");
  line.className = "problem";
  line.textContent = message;
  turn.append(line);
}

// Tokens come faster than a screen shows them: at most one drawing a frame.
function painter(turn) {
  let text = "", due = 0;
  const paint = () => {
    due = 0;
    const atEnd = at("turns").scrollHeight - at("turns").scrollTop - at("turns").clientHeight < 80;
    turn.replaceChildren(render(text));
    if (atEnd) turn.scrollIntoView({ block: "end" });
  };
  return {
    push(fresh) {
      text = fresh;
      due ||= requestAnimationFrame(paint);
    },
    finish() {
      cancelAnimationFrame(due);
      paint();
    },
  };
}

function settings() {
  const { system, ...numbers } = Object.fromEntries(fields.map((field) => [field.name, field.value]));
  const sampling = {};
  for (const [name, value] of Object.entries(numbers)) if (value.trim() !== "") sampling[name] = Number(value);
  return { system: system.trim(), sampling };
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "";;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
  }
}

async function answer(question) {
  const wrong = fields.find((field) => !field.checkValidity());
  if (wrong) {
    at("settings").open = true;
    wrong.reportValidity();
    return;
  }
  at("question").value = "";
  turns.push({ role: "user", content: question });
  show(turns.at(-1));
  const turn = show({ role: "assistant", content: "" }), drawing = painter(turn);
  setRunning(new AbortController());
  let text = "", tokens = 0, first = null, error = null;
  const began = performance.now();
  try {
    const { system, sampling } = settings();
    const messages = [...(system ? [{ role: "system", content: system }] : []), ...turns];
    const body = JSON.stringify({
      model: at("models").value || undefined, messages, ...sampling,
      stream: true, stream_options: { include_usage: true, continuous_usage_stats: true },
    });
    const response = await ask("v1/chat/completions", { method: "POST", body, signal: running.signal });
    for await (const item of events(response)) {
      if (item.error) throw new Error(item.error.message);
      first ??= performance.now();
      tokens = item.usage?.completion_tokens ?? tokens;
      text += item.choices[0]?.delta.content ?? "";
      drawing.push(text);
      note(tokens, began, first);
    }
  } catch (failed) {
    if (failed.name !== "AbortError") error = failed;
  }
  drawing.finish();
  if (error) say(turn, error.message);
  if (text) turns.push({ role: "assistant", content: text });
  else turns.pop(); // a question without an answer is not part of the conversation
  saveTurns(turns);
  note(tokens, began, first);
  setRunning(null);
}

function note(tokens, began, first) {
  const seconds = (performance.now() - (first ?? began)) / 1000;
  const rate = tokens > 1 && seconds > 0 ? `, ${((tokens - 1) / seconds).toFixed(1)} tokens/s` : "";
  const wait = first === null ? "" : `, first after ${((first - began) / 1000).toFixed(2)} s`;
  at("note").textContent = `${tokens} ${tokens === 1 ? "token" : "tokens"}${rate}${wait}`;
}

function setRunning(controller) {
  running = controller;
  document.body.dataset.running = String(controller !== null);
  at("send").hidden = controller !== null;
  at("stop").hidden = controller === null;
}

async function copy(button) {
  const code = button.closest(".code").querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch { // pages without TLS have no clipboard; the old way needs a selection
    getSelection().selectAllChildren(code);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = at("question").value.trim();
  if (question && !running) answer(question);
});
at("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("form").requestSubmit();
  }
});
at("stop").addEventListener("click", () => running?.abort());
at("clear").addEventListener("click", () => {
  running?.abort();
  turns = [];
  clearTurns();
  at("turns").replaceChildren();
  at("note").textContent = "";
});
at("turns").addEventListener("click", (event) => {
  if (event.target.classList.contains("copy")) copy(event.target);
});
for (const [name, value] of Object.entries(loadSettings())) document.querySelector(`#settings [name=${name}]`).value = value;
for (const field of fields) {
  field.addEventListener("change", () => saveSettings(Object.fromEntries(fields.map((item) => [item.name, item.value]))));
}
turns.forEach(show);
setRunning(null);
ask("v1/models").then((response) => response.json()).then((list) => {
  at("model").textContent = list.data[0].id;
  document.title = `${list.data[0].id} · MindCoder`;
  at("models").replaceChildren(...list.data.map((model) => new Option(model.id)));
  at("models").hidden = list.data.length < 2; // adapters on one base
}).catch((error) => { at("note").textContent = error.message; });
