"""MindSpore's scheduler process: the ranks of a job meet there. Runs on CPU and exits with the last rank."""

from __future__ import annotations


def main() -> None:
    """Serve until all ranks have left."""
    from mindcoder.backend.device import setup_device

    setup_device("CPU")
    from mindspore.communication import init

    init()


if __name__ == "__main__":
    main()
