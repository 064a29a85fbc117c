"""`line-monitor cameras`: lists the GigE Vision cameras on this machine's networks."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command has no arguments of its own."""


def run(options: argparse.Namespace) -> int:
    from drivers import gige

    found = gige.discover()
    for camera in found:
        print(f'{camera.id}  {camera.vendor}  {camera.model}  {camera.address}  source = "{camera.source}"')
    if not found:
        print("no GigE Vision camera found on this machine's networks")
    return 0
