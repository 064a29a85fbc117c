"""`line-monitor review`: serves the operators' web page without the line, or makes its password's hash."""

from __future__ import annotations

import argparse
import sys

from monitor.commands.arguments import CommandError, load_settings, print_to_stderr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hash-password",
        action="store_true",
        help="read a password and print its hash for review.password_hash in the settings",
    )


def run(options: argparse.Namespace) -> int:
    if options.hash_password:
        _hash_password()
        return 0
    from monitor.review.server import serve_until_stopped
    from monitor.system import logs

    settings = load_settings(options)
    logs.configure()
    serve_until_stopped(settings, say=print_to_stderr)
    return 0


def _hash_password() -> None:
    """Read the password twice from a terminal, or one line from a pipe. Raises CommandError."""
    import getpass

    from monitor.review.access import hash_password

    try:
        if sys.stdin.isatty():
            password = getpass.getpass("Password for the review page: ")
            if getpass.getpass("Repeat the password: ") != password:
                raise CommandError("the two passwords differ: run the command again")
        else:
            password = sys.stdin.readline().rstrip("\n")
        print(hash_password(password))
    except (EOFError, ValueError) as error:
        raise CommandError(
            str(error) or "no password was given: type one, or write it to the command's input"
        ) from None
