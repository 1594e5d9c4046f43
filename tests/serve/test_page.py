"""The chat page in a headless Chromium.

Runs where playwright is installed and a Chromium is on the path (Debian's package chromium) or named by
MINDCODER_CHROMIUM (the npm package @sparticuz/chromium holds one).
"""

from __future__ import annotations

import json
import os
import shutil

import httpx
import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = os.environ.get("MINDCODER_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (MINDCODER_CHROMIUM)")
IDLE, READY = "body[data-running=false]", "#model:has-text('tiny-llama')"  # the policy forbids waiting for expressions


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(server, browser):
    """A fresh visitor's page; nothing may be thrown on it or refused by its policy."""
    opened = browser.new_page()
    opened.set_default_timeout(120_000)
    errors = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    opened.goto(server.url)
    opened.wait_for_selector(READY)
    yield opened
    opened.close()
    server.wait_until_idle()
    assert not errors, errors


def ask(page, text):
    page.fill("#question", text)
    page.press("#question", "Enter")
    page.wait_for_selector(IDLE)


def kept(page):
    return json.loads(page.evaluate("localStorage.getItem('mindcoder.conversation')") or "[]")


def show(page, text, role="assistant"):
    """What the page makes of an answer, through its own storage."""
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": text}]
    page.evaluate("turns => localStorage.setItem('mindcoder.conversation', turns)", json.dumps(turns))
    page.reload()
    page.wait_for_selector(READY)
    return page.locator(f".turn.{role}").last


def test_a_conversation_on_the_page(server, page, offline, served_tokenizer):
    from mindcoder.data.conversation import Message, encode_conversation

    question = "<b>sort</b> a list"
    ids = encode_conversation([Message("user", question)], "llama2-chat", served_tokenizer)
    tokens = offline(ids, 512 - len(ids))
    ask(page, question)
    answer = served_tokenizer.decode(tokens, skip_special_tokens=True)
    assert kept(page) == [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    assert page.text_content(".turn.user") == question  # never as HTML
    assert page.text_content("#note").startswith(f"{len(tokens)} tokens, ")  # not pieces of the stream
    ask(page, "again")
    assert "leaves no room for an answer" in page.text_content(".problem")  # the answer has filled the context
    assert len(kept(page)) == 2  # a question without an answer is not part of it


def test_it_is_kept_until_it_is_cleared(page):
    page.evaluate("document.getElementById('settings').open = true")
    page.fill("[name=max_tokens]", "3")
    page.fill("[name=seed]", "7")
    page.fill("[name=temperature]", "1.5")
    ask(page, "a")
    assert page.text_content("#note").startswith("3 tokens")
    page.reload()
    page.wait_for_selector(IDLE)
    assert page.locator(".turn").count() == 2 and page.input_value("[name=temperature]") == "1.5"
    page.click("#clear")
    assert page.locator(".turn").count() == 0
    page.reload()
    page.wait_for_selector(IDLE)
    assert page.locator(".turn").count() == 0 and kept(page) == []


def test_the_sampling_settings_are_sent(page):
    sent = []
    page.on("request", lambda request: sent.append(request.post_data_json) if request.method == "POST" else None)
    page.evaluate("document.getElementById('settings').open = true")
    for name, value in {"temperature": "0.5", "top_p": "0.9", "top_k": "5", "max_tokens": "2", "seed": "1"}.items():
        page.fill(f"[name={name}]", value)
    page.fill("[name=system]", "Be brief.")
    ask(page, "a")
    assert sent[0].items() >= {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "max_tokens": 2, "seed": 1}.items()
    assert sent[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    page.fill("[name=temperature]", "99")
    page.fill("#question", "b")
    page.press("#question", "Enter")
    assert len(sent) == 1 and page.input_value("#question") == "b"  # out of range: the browser says so


def test_stop_ends_the_answer_and_frees_the_engine(page):
    page.fill("#question", "a")
    page.press("#question", "Enter")
    page.wait_for_selector(".turn.assistant:not(:empty)")
    if page.is_visible("#stop"):
        page.click("#stop")
    page.wait_for_selector(IDLE)
    assert page.is_visible("#send") and not page.is_visible("#stop")


MARKDOWN = """# Title
Some *soft*, **loud** and `x = 1`, snake_case_name, 2 * 3 * 4.

1. one
2. two
   - inner

> quoted

| a | b |
|---|---|
| 1 | 2 |

```python
def f(x):  # twice
    return "a" * 2
```
[docs](https://example.org/a) and ![picture](https://example.org/p.png)
"""


def test_markdown_and_code(page):
    turn = show(page, MARKDOWN)
    for selector, text in {
        "h1": "Title",
        "em": "soft",
        "strong": "loud",
        "p > code": "x = 1",
        "ol > li > ul > li": "inner",
        "blockquote p": "quoted",
        "td >> nth=1": "2",
        ".code .keyword >> nth=0": "def",
        ".code .string": '"a"',
        ".code .comment": "# twice",
    }.items():
        assert turn.locator(selector).first.text_content() == text, selector
    assert "snake_case_name, 2 * 3 * 4" in turn.text_content()
    assert turn.locator("pre code").text_content() == 'def f(x):  # twice\n    return "a" * 2'
    assert [link.get_attribute("href") for link in turn.locator("a").all()] == [
        "https://example.org/a",
        "https://example.org/p.png",
    ]
    assert turn.locator("a").first.get_attribute("rel") == "noopener noreferrer" and turn.locator("img").count() == 0


def test_code_is_copied(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    show(page, "```c\nint main(void) { return 0; }\n```").locator(".copy").click()
    page.wait_for_selector(".copy:has-text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == "int main(void) { return 0; }"


HOSTILE = [
    "<img src=x onerror=window.hit=1><script>window.hit=1</script><svg onload=window.hit=1>",
    "[a](javascript:window.hit=1) [b](JaVaScRiPt:window.hit=1) [c](data:text/html,x) [d](//evil) [e](x\tjavascript:1)",
    "```<img src=x onerror=window.hit=1>\n</code></pre><img src=x onerror=window.hit=1>\n```",
    "```python\n'<img src=x onerror=window.hit=1>' # </span><script>window.hit=1</script>\n```",
    "| <img src=x onerror=window.hit=1> | b |\n|---|---|\n| <b>x</b> | y |",
    "**<img src=x onerror=window.hit=1>** `<script>` # <h1>",
    "[<img src=x onerror=window.hit=1>](https://example.org/\"onmouseover=\"window.hit=1)",
    "> " * 5000 + "deep",
    "".join(" " * n + "- x\n" for n in range(500)),
    "*" * 20_000 + "a",
    "`" * 20_000 + "a",
    "[" * 20_000,
    "_a " * 20_000,
    "|" * 20_000 + "\n" + "|-" * 5_000,
    "&lt;script&gt; \u202e\u0000 <style>*{display:none}</style><iframe src=//evil.example></iframe>",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_in_an_answer_becomes_html(page, text):
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    turn = show(page, text)
    page.wait_for_timeout(50)
    assert page.evaluate("window.hit") is None
    assert turn.locator("img, script, svg, iframe, style, [onerror], [onmouseover]").count() == 0
    for link in turn.locator("a").all():
        assert link.get_attribute("href").startswith(("https://", "http://", "mailto:"))
    assert all(url.startswith(page.url) for url in requests)


def test_what_another_version_left_in_the_storage_is_no_error(page):
    for left in ("{", "null", "[1]", '[{"role": "assistant", "content": 5}]', '"x"'):
        page.evaluate("left => localStorage.setItem('mindcoder.conversation', left)", left)
        page.evaluate("left => localStorage.setItem('mindcoder.settings', left)", left)
        page.reload()
        page.wait_for_selector(READY)
        assert page.locator(".turn").count() == 0


def test_its_policy_allows_no_script_but_its_own(server, browser):
    page = browser.new_page()
    page.goto(server.url)
    page.evaluate("""() => {
        const box = document.createElement("div");
        box.innerHTML = "<img src=x onerror='window.hit=1'>";
        document.body.append(box);
    }""")
    page.wait_for_timeout(100)
    assert page.evaluate("window.hit") is None
    page.close()
    for path in ("/", "/page/chat.js", "/page/page.css"):
        answer = httpx.get(f"{server.url}{path}")
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "http://" not in answer.text and "style=" not in answer.text and "onclick" not in answer.text
