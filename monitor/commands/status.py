"""`line-monitor status`: prints the line's state, as it is known at the broker."""

from __future__ import annotations

import argparse

from monitor.commands.arguments import load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the payload of P/status, with `alive`")


def run(options: argparse.Namespace) -> int:
    import msgspec

    from monitor.publish.remote_line import RemoteLine

    settings = load_settings(options)
    with RemoteLine(settings) as line:
        state = line.read_state()
    if options.json:
        print(msgspec.json.encode({**state.status, "alive": state.is_alive}).decode())
    else:
        print("\n".join(state.describe(settings.prefix)))
    return 0
