// Markdown as DOM nodes. A model's text only ever becomes text nodes: nothing in it is read as HTML.
import { highlight } from "./highlight.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*)$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const RULE = /^ {0,3}([-*_])( *\1){2,} *$/;
const TABLE_RULE = /^\s*\|?(\s*:?-+:?\s*\|)+\s*:?-*:?\s*$/;
const DEEPEST = 8; // quotations and lists inside one another; beyond, text

export function render(text) {
  const fragment = document.createDocumentFragment();
  blocks(text.split("\n"), fragment, 0);
  return fragment;
}

function blocks(lines, into, depth) {
  let paragraph = [];
  const flush = () => {
    if (paragraph.length) into.append(element("p", inline(paragraph.join("\n"))));
    paragraph = [];
  };
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at];
    let match;
    if ((match = FENCE.exec(line))) {
      flush();
      const mark = match[1], code = [];
      for (at += 1; at < lines.length && !closes(lines[at], mark); at += 1) code.push(lines[at]);
      into.append(codeBlock(code.join("\n"), match[2])); // an unfinished block is one too: it is still being written
    } else if ((match = HEADING.exec(line))) {
      flush();
      into.append(element(`h${match[1].length}`, inline(match[2])));
    } else if (RULE.test(line)) {
      flush();
      into.append(document.createElement("hr"));
    } else if (depth < DEEPEST && /^ {0,3}>/.test(line)) {
      flush();
      const quoted = [];
      for (; at < lines.length && /^ {0,3}>/.test(lines[at]); at += 1) quoted.push(lines[at].replace(/^ {0,3}> ?/, ""));
      at -= 1;
      const quote = document.createElement("blockquote");
      blocks(quoted, quote, depth + 1);
      into.append(quote);
    } else if (depth < DEEPEST && ITEM.test(line)) {
      flush();
      at = list(lines, at, into, depth);
    } else if (line.includes("|") && TABLE_RULE.test(lines[at + 1] ?? "")) {
      flush();
      const rows = [line];
      for (at += 2; at < lines.length && lines[at].includes("|"); at += 1) rows.push(lines[at]);
      at -= 1;
      into.append(table(rows));
    } else if (line.trim() === "") {
      flush();
    } else {
      paragraph.push(line);
    }
  }
  flush();
}

function closes(line, mark) {
  const text = line.trim();
  return text.length >= mark.length && text === mark[0].repeat(text.length);
}

// One list from line `start`; gives the number of its last line.
function list(lines, start, into, depth) {
  const [, indent, sign] = ITEM.exec(lines[start]);
  const ordered = /\d/.test(sign);
  const made = document.createElement(ordered ? "ol" : "ul");
  if (ordered) made.start = parseInt(sign, 10);
  let at = start;
  while (at < lines.length) {
    const match = ITEM.exec(lines[at]);
    if (!match || match[1].length !== indent.length || /\d/.test(match[2]) !== ordered) break;
    const inner = [match[3]];
    const least = indent.length + 1;
    for (at += 1; at < lines.length; at += 1) {
      const blank = lines[at].trim() === "";
      const deeper = lines[at].search(/\S/) >= least;
      if (!deeper && !(blank && (lines[at + 1] ?? "").search(/\S/) >= least)) break;
      inner.push(blank ? "" : lines[at].slice(Math.min(lines[at].search(/\S/), indent.length + match[2].length + 1)));
    }
    const item = document.createElement("li");
    blocks(inner, item, depth + 1);
    if (item.childNodes.length === 1 && item.firstChild.nodeName === "P") item.replaceChildren(...item.firstChild.childNodes);
    made.append(item);
    while (at < lines.length && lines[at].trim() === "" && sameItem(lines[at + 1], indent, ordered)) at += 1;
  }
  into.append(made);
  return at - 1;
}

function sameItem(line, indent, ordered) {
  const match = ITEM.exec(line ?? "");
  return match !== null && match[1].length === indent.length && /\d/.test(match[2]) === ordered;
}

function table(rows) {
  const made = document.createElement("table");
  rows.forEach((row, number) => {
    const cells = row.trim().replace(/^\|/, "").replace(/\|$/, "").split("|");
    const line = document.createElement("tr");
    for (const cell of cells) line.append(element(number ? "td" : "th", inline(cell.trim())));
    made.append(line);
  });
  return made;
}

function codeBlock(text, language) {
  const box = document.createElement("div"), bar = document.createElement("div"), pre = document.createElement("pre");
  const code = document.createElement("code"), copy = document.createElement("button");
  box.className = "code";
  bar.className = "bar";
  copy.type = "button";
  copy.className = "copy";
  copy.textContent = "Copy";
  bar.append(element("span", [document.createTextNode(language)]), copy);
  code.append(highlight(text, language));
  pre.append(code);
  box.append(bar, pre);
  return box;
}

const INLINE = [
  { open: /(`+)/y, make: codeSpan },
  { open: /!?\[/y, make: link },
  { open: /(\*\*|__)(?=\S)/y, make: (text, at, match) => marked(text, at, match[1], "strong") },
  { open: /(\*|_)(?=\S)/y, make: (text, at, match) => marked(text, at, match[1], "em") },
  { open: /https?:\/\/[^\s<>"'`)\]]+/y, make: (text, at, match) => [anchor(match[0], [match[0]]), at + match[0].length] },
];

function inline(text, depth = 0) {
  const nodes = [];
  let plain = "", at = 0, failed = 0;
  while (at < text.length) {
    const escaped = text[at] === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "");
    if (escaped) {
      plain += text[at + 1];
      at += 2;
      continue;
    }
    let made = null;
    if (depth < DEEPEST && failed < 1000) { // marks that nothing closes are each looked for to the end
      for (const kind of INLINE) {
        kind.open.lastIndex = at;
        const match = kind.open.exec(text);
        if (match && !inWord(text, at, match[0])) {
          made = kind.make(text, at, match, depth);
          if (!made) failed += 1;
          if (made) break;
        }
      }
    }
    if (made) {
      if (plain) nodes.push(document.createTextNode(plain));
      plain = "";
      nodes.push(made[0]);
      at = made[1];
    } else {
      const run = text[at] === "`" ? /`+/y : null;
      if (run) run.lastIndex = at;
      const skipped = run ? run.exec(text)[0] : text[at];
      plain += skipped;
      at += skipped.length;
    }
  }
  if (plain) nodes.push(document.createTextNode(plain));
  return nodes;
}

// snake_case is not emphasis
function inWord(text, at, mark) {
  return mark[0] === "_" && at > 0 && /\w/.test(text[at - 1]);
}

function codeSpan(text, at, match) {
  const mark = match[1];
  for (let end = text.indexOf(mark, at + mark.length); end >= 0; end = text.indexOf(mark, end + mark.length)) {
    let length = mark.length;
    while (text[end + length] === "`") length += 1;
    if (length === mark.length) return [element("code", [text.slice(at + mark.length, end).replace(/^ (.*) $/s, "$1")]), end + length];
    end += length - mark.length;
  }
  return null;
}

function marked(text, at, mark, name) {
  for (let end = text.indexOf(mark, at + mark.length); end >= 0; end = text.indexOf(mark, end + 1)) {
    const inside = text.slice(at + mark.length, end);
    const ends = /\S$/.test(inside) && !(mark[0] === "_" && /\w/.test(text[end + mark.length] ?? ""));
    if (ends && !(mark.length === 1 && text[end + 1] === mark)) return [element(name, inline(inside, 1)), end + mark.length];
    if (mark.length === 1 && text[end + 1] === mark) end += 1;
  }
  return null;
}

// [text](address); a picture becomes its link: the page loads nothing from elsewhere
function link(text, at, match) {
  const begin = at + match[0].length, close = text.indexOf("](", begin), end = close < 0 ? -1 : text.indexOf(")", close);
  if (end < 0 || text.slice(begin, close).includes("\n")) return null;
  const label = text.slice(begin, close), address = text.slice(close + 2, end).trim().split(/\s/)[0];
  if (!isWebAddress(address)) return null;
  return [anchor(address, inline(label, DEEPEST - 1)), end + 1];
}

function isWebAddress(address) {
  try {
    return ["http:", "https:", "mailto:"].includes(new URL(address).protocol);
  } catch {
    return false;
  }
}

function anchor(address, content) {
  const made = element("a", content);
  made.href = address;
  made.target = "_blank";
  made.rel = "noopener noreferrer";
  return made;
}

function element(name, content) {
  const made = document.createElement(name);
  made.append(...content);
  return made;
}
