"""``python -m benchmarks serve``, ``overload``, ``losses`` or ``chat``; each has ``--help``."""

from __future__ import annotations

import sys


def main() -> None:
    match sys.argv[1:2]:
        case ["serve"]:
            from benchmarks.serve.comparing import command
        case ["overload"]:
            from benchmarks.serve.overload import command
        case ["losses"]:
            from benchmarks.losses import command
        case ["chat"]:
            from benchmarks.chat.comparing import command
        case _:
            sys.exit(
                "python -m benchmarks serve [--help]     the same model behind our server and its peers\n"
                "python -m benchmarks overload [--help]  ten times what the server can do\n"
                "python -m benchmarks losses [--help]    contrastive losses: time and memory at growing batches\n"
                "python -m benchmarks chat [--help]      a small language model in our runtime and in its peers"
            )
    command(sys.argv[2:])


if __name__ == "__main__":
    main()
