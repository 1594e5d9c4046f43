"""serve: OpenAI's API over HTTP."""

from __future__ import annotations

import argparse
import os
import signal
from ipaddress import ip_address

from mindcoder.cli.arguments import add_adapter_flag, positive, whole_number
from mindcoder.cli.logs import start_logging
from mindcoder.cli.model_flags import add_model_flags, open_flagged_model
from mindcoder.errors import UserError

KEY_VARIABLE = "MINDCODER_API_KEY"


def add_serve_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of serve."""
    add_model_flags(parser, batch=16)
    add_adapter_flag(parser, "which requests choose by it as their model")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    parser.add_argument(
        "--port", type=whole_number(0, 65535), default=8000, metavar="N", help="default: 8000; 0 takes a free one"
    )
    parser.add_argument("--api_key", metavar="KEY", help=f"key required from clients; also read from {KEY_VARIABLE}")
    parser.add_argument(
        "--max_waiting", type=positive, default=256, metavar="N", help="queued requests; more get status 429"
    )
    parser.add_argument("--rate_limit", type=positive, metavar="N", help="requests per minute and client (by address)")
    parser.add_argument(
        "--max_body", type=positive, default=1 << 20, metavar="BYTES", help="maximum size of a request; default: 1 MiB"
    )
    parser.add_argument(
        "--max_request_tokens",
        type=positive,
        default=1 << 20,
        metavar="N",
        help="limit of prompts x n x max_tokens per request; default: 1048576",
    )
    parser.add_argument(
        "--timeout", type=positive, default=600, metavar="SECONDS", help="time limit of an answer; default: 600"
    )
    parser.add_argument(
        "--allowed_host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name of the server, besides localhost and --host; * allows any; may be repeated",
    )
    parser.add_argument(
        "--allowed_origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="site whose pages may send requests, such as https://chat.example; * allows any; may be repeated",
    )
    parser.add_argument(
        "--trusted_proxy", metavar="ADDRESS", help="trusted proxy whose X-Forwarded-For identifies the client"
    )


def serve_verb(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    start_logging()
    try:
        from mindcoder.serve.app import create_app
        from mindcoder.serve.limits import Limits
        from mindcoder.serve.listen import bind, run
        from mindcoder.serve.origins import Names
    except ImportError as error:
        raise UserError(f"serving needs more packages ({error.name} is missing): pip install -e '.[serve]'") from None
    key = arguments.api_key or os.environ.get(KEY_VARIABLE) or None
    taken = bind(arguments.host, arguments.port)
    try:
        if key is None and not ip_address(taken.getsockname()[0]).is_loopback:
            raise UserError(f"--host {arguments.host} lets other machines in: set --api_key or {KEY_VARIABLE}")
        model = open_flagged_model(arguments)
        limits = Limits(
            key,
            arguments.max_waiting,
            arguments.rate_limit,
            arguments.max_body,
            float(arguments.timeout),
            arguments.max_request_tokens,
        )
        names = Names.of(arguments.host, arguments.allowed_host, arguments.allowed_origin)
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        print(
            f"{model.name} on http://{host}:{taken.getsockname()[1]} (chat page /, OpenAI's interface /v1)", flush=True
        )
        for interruption in (signal.SIGINT, signal.SIGTERM):
            # uvicorn shuts down cleanly on both and raises them again afterwards, when nothing is left to interrupt.
            signal.signal(interruption, lambda *_: None)
        run(create_app(model, limits, names), taken, limits, arguments.trusted_proxy)
    finally:
        taken.close()
    return 0
