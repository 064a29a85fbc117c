"""`line-monitor reset`: resets a line that waits for it, over the broker."""

from __future__ import annotations

import argparse

from monitor.commands.arguments import load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Resets a line that is not ready until a person has looked. Look for the parts first: "
        "`line-monitor status` names them."
    )


def run(options: argparse.Namespace) -> int:
    from monitor.publish.remote_line import RemoteLine

    settings = load_settings(options)
    with RemoteLine(settings) as line:
        done = line.reset()
    if done is None:
        print("reset sent; this account may not read whether the line took it")
        return 0
    if done.before.latch is None:
        print("nothing waited for a reset")
    else:
        print(f"reset: {done.before.latch} is lifted")
        for part in done.before.describe_latched():
            print(f"it was latched for: {part}")
    print("\n".join(done.after.describe(settings.prefix)))
    return 0
