"""The chat page in a headless Chromium.

Runs where playwright is installed and a Chromium is on the path or named by MINDCODER_CHROMIUM (the npm package
@sparticuz/chromium holds one for machines without a download of browsers).
"""

from __future__ import annotations

import os
import shutil

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = os.environ.get("MINDCODER_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (MINDCODER_CHROMIUM)")


@pytest.fixture
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=BROWSER,
            args=["--no-sandbox", "--headless=old", "--single-process", "--no-zygote", "--disable-gpu"],
        )
        yield chromium
        chromium.close()


def test_a_conversation_on_the_page(server, browser, offline, served_tokenizer):
    from mindcoder.data.conversation import Message, encode_conversation

    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    page.wait_for_function("document.getElementById('model').textContent === 'tiny-llama'")
    question = "<b>sort</b> a list"
    ids = encode_conversation([Message("user", question)], "llama2-chat", served_tokenizer)
    answer = served_tokenizer.decode(offline(ids, 512 - len(ids)), skip_special_tokens=True)

    def ask(text):
        page.fill("#question", text)
        page.press("#question", "Enter")
        page.wait_for_function("!running")
        return page.eval_on_selector_all(".assistant", "turns => turns.at(-1).textContent")

    assert ask(question) == answer
    assert page.eval_on_selector_all(".user", "turns => turns[0].textContent") == question  # never as HTML
    assert "leaves no room for an answer" in ask("again")  # the answer has filled the context
    assert page.query_selector(".assistant.error") is not None
    page.click("#reset")
    assert page.query_selector(".turn") is None and not errors
    page.close()
    server.wait_until_idle()


def test_stop_ends_the_answer_and_frees_the_engine(server, browser):
    page = browser.new_page()
    page.goto(server.url)
    page.fill("#question", "a")
    page.press("#question", "Enter")
    page.wait_for_function("document.querySelector('.assistant')?.textContent.length > 0")
    if page.is_visible("#stop"):
        page.click("#stop")
    page.wait_for_function("!running")
    assert page.is_visible("#send") and not page.is_visible("#stop")
    page.close()
    server.wait_until_idle()
