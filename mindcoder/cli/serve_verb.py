"""serve: OpenAI's interface over HTTP."""

from __future__ import annotations

import argparse
import os
import signal
import socket

from mindcoder.cli.arguments import add_adapter_flag, port_number, positive
from mindcoder.cli.logs import start_logging
from mindcoder.cli.model_flags import add_model_flags, open_flagged_model
from mindcoder.errors import UserError

KEY_VARIABLE = "MINDCODER_API_KEY"


def add_serve_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of serve."""
    add_model_flags(parser, batch=16)
    add_adapter_flag(parser, "which requests choose by it as their model")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    parser.add_argument("--port", type=port_number, default=8000, metavar="N", help="TCP port")
    parser.add_argument("--api_key", metavar="KEY", help=f"that clients have to send; also from {KEY_VARIABLE}")
    parser.add_argument("--max_waiting", type=positive, default=256, metavar="N", help="more requests get status 429")
    parser.add_argument("--rate_limit", type=positive, metavar="N", help="requests a minute and client")
    parser.add_argument(
        "--max_body", type=positive, default=1 << 20, metavar="BYTES", help="of a request; default: 1 MiB"
    )
    parser.add_argument("--timeout", type=positive, default=600, metavar="SECONDS", help="of an answer; default: 600")


def serve_verb(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    start_logging()
    try:
        import uvicorn

        from mindcoder.serve.app import Limits, create_app
    except ImportError as error:
        raise UserError(f"serving needs more packages ({error.name} is missing): pip install -e '.[serve]'") from None
    _check_port(arguments.host, arguments.port)
    key = arguments.api_key or os.environ.get(KEY_VARIABLE) or None
    if arguments.host not in ("127.0.0.1", "localhost", "::1") and key is None:
        raise UserError(f"--host {arguments.host} lets other machines in: set --api_key or {KEY_VARIABLE}")
    model = open_flagged_model(arguments)
    limits = Limits(key, arguments.max_waiting, arguments.rate_limit, arguments.max_body, float(arguments.timeout))
    print(f"{model.name} on http://{arguments.host}:{arguments.port} (chat page /, OpenAI's interface /v1)", flush=True)
    for interruption in (signal.SIGINT, signal.SIGTERM):
        # uvicorn ends well on both and raises them again afterwards; then nothing is left to interrupt.
        signal.signal(interruption, lambda *_: None)
    uvicorn.run(
        create_app(model, limits),
        host=arguments.host,
        port=arguments.port,
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
    return 0


def _check_port(host: str, port: int) -> None:
    """Before the model is loaded."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port}: {error.strerror}") from None
