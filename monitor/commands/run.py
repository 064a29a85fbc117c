"""`line-monitor run`: runs the line as a service until it is stopped."""

from __future__ import annotations

import argparse

from monitor.commands.arguments import CommandError, load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command has no arguments of its own."""


def run(options: argparse.Namespace) -> int:
    from monitor.review.access import refusal
    from monitor.service import supervisor
    from monitor.system import logs

    settings = load_settings(options)
    if not settings.camera:
        raise CommandError("no [[camera]] in the settings: there is nothing to inspect")
    if settings.review.port and (why := refusal(settings.review)) is not None:
        raise CommandError(why)
    logs.configure(settings.log.level.number)
    return supervisor.run(settings, lambda: load_settings(options))
