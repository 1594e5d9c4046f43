// Code as text nodes and coloured spans; one pass, whatever the language.
const WORDS = {
  python: "False None True and as assert async await break class continue def del elif else except finally for from global if import in is lambda match nonlocal not or pass raise return self try while with yield",
  javascript: "async await break case catch class const continue default delete do else export extends false finally for function if implements import in instanceof interface let new null of return static super switch this throw true try type typeof undefined var void while yield",
  c: "alignas auto bool break case catch char class const constexpr continue default delete do double else enum explicit extern false float for friend if inline int long namespace new noexcept nullptr operator private protected public return short signed sizeof static struct switch template this throw true try typedef typename union unsigned using virtual void volatile while",
  java: "abstract boolean break byte case catch char class const continue default do double else enum extends false final finally float for if implements import instanceof int interface long native new null package private protected public record return short static super switch synchronized this throw throws transient true try var void volatile while",
  go: "break case chan const continue default defer else fallthrough false for func go if import interface iota map nil package range return select struct switch true type var",
  rust: "as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut pub ref return self Self static struct super trait true type unsafe use where while",
  bash: "case do done elif else esac exit export fi for function if in local return set then until while",
  sql: "and as asc by case create delete desc distinct drop else end exists from group having in index inner insert into is join key left like limit not null on or order outer primary right select set table then union update values when where",
};
const NAMES = {
  py: "python", python3: "python", js: "javascript", ts: "javascript", typescript: "javascript", jsx: "javascript", tsx: "javascript",
  json: "javascript", cpp: "c", "c++": "c", cc: "c", h: "c", cs: "java", csharp: "java", kotlin: "java", golang: "go", rs: "rust",
  sh: "bash", shell: "bash", zsh: "bash", console: "bash",
};
const HASH = /#[^\n]*/y, SLASHES = /\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$)/y, DASHES = /--[^\n]*/y;
const COMMENTS = { python: HASH, bash: HASH, sql: DASHES };
const STRING = /"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?|`(?:[^`\\]|\\[\s\S])*`?/y;
const NUMBER = /\b(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\b/y;
const WORD = /[A-Za-z_$][\w$]*/y;
const OTHER = /[^A-Za-z_$\d"'`#/-]+|[\s\S]/y;

export function highlight(text, language) {
  const name = language.toLowerCase(), family = NAMES[name] ?? name;
  const words = new Set((WORDS[family] ?? "").split(" "));
  const fragment = document.createDocumentFragment();
  if (!(family in WORDS)) {
    fragment.append(text);
    return fragment;
  }
  const kinds = [[COMMENTS[family] ?? SLASHES, "comment"], [STRING, "string"], [NUMBER, "number"], [WORD, null], [OTHER, null]];
  let plain = "";
  for (let at = 0; at < text.length;) {
    for (const [pattern, kind] of kinds) {
      pattern.lastIndex = at;
      const found = pattern.exec(text)?.[0];
      if (!found) continue;
      const isWord = pattern === WORD && words.has(family === "sql" ? found.toLowerCase() : found);
      const shown = isWord ? "keyword" : kind;
      if (shown === null) {
        plain += found;
      } else {
        if (plain) fragment.append(plain);
        plain = "";
        const span = document.createElement("span");
        span.className = shown;
        span.textContent = found;
        fragment.append(span);
      }
      at += found.length;
      break;
    }
  }
  if (plain) fragment.append(plain);
  return fragment;
}
