"""The chat page: our own files, so that its content security policy allows no other script, style or address."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Response

FOLDER = Path(__file__).parent
KINDS = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
FILES = ("chat.js", "conversation.js", "highlight.js", "markdown.js", "page.css")


def add_page(app: FastAPI) -> None:
    """Serve ``/`` and the files it refers to."""
    for name, path in (("index.html", "/"), *((name, f"/page/{name}") for name in FILES)):
        app.add_api_route(path, _answers(FOLDER / name), methods=["GET"], include_in_schema=False)


def _answers(file: Path):
    body, kind = file.read_bytes(), f"{KINDS[file.suffix]}; charset=utf-8"

    async def answer() -> Response:
        return Response(body, media_type=kind)

    return answer
