"""MindSpore's scheduler process on CPU: it brings the workers together and ends with them."""

from __future__ import annotations


def main() -> None:
    """Serve until all workers have left."""
    from mindcoder.backend.device import setup_device

    setup_device("CPU")
    from mindspore.communication import init

    init()


if __name__ == "__main__":
    main()
