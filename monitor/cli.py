"""The `line-monitor` command: parses the arguments, runs one command, prints expected errors as one line.

It knows nothing of what a command does. It imports only the module of the command in the arguments, so that
`--help` needs no import that takes long.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from drivers.camera import CameraError
from monitor.commands.arguments import FAILED, USAGE, add_config, as_path
from monitor.errors import LineMonitorError

COMMANDS = {
    "demo": "run a whole line on simulated cameras; needs no setup",
    "check": "check everything that the line needs; prints the fix for each problem",
    "cameras": "list the GigE Vision cameras on this machine's networks",
    "collect": "save frames of a camera as training images",
    "train": "train a recipe from images of good parts",
    "calibrate": "set a recipe's threshold or presence gate again from other images",
    "score": "score image files; prints one JSON line for each",
    "evaluate": "measure a recipe's accuracy on labelled images",
    "recipes": "list and compare the versions of recipes, put one in force, go back",
    "export": "write a recipe as an ONNX or OpenVINO model for other programs",
    "teacher": "list, download, make or convert teacher networks",
    "journal": "show rejected and uninspected parts, and what became of them",
    "accounts": "list, add and remove named accounts for the page and for signatures",
    "audit": "show the record of who changed what, or verify that it is whole",
    "report": "write the record of a recipe or of a shift as one page to print",
    "status": "show the line's state, over the broker",
    "reset": "reset a line that waits for it, over the broker",
    "fleet": "many lines: train and rescore recipes on a Ray cluster, show the state of all lines",
    "bench": "measure how fast this machine scores, transports and publishes frames",
    "run": "run the line: cameras, scoring, publishing, until it is stopped",
    "review": "serve the operators' web page without the line",
}
_TRAINING_COMMANDS = frozenset({"train", "demo", "teacher"})
_MODULES = {"bench": "monitor.commands.bench.command"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 on success, 1 on a failure with a message on stderr, 2 on wrong usage."""
    # An OpenMP thread that spins while it waits can occupy the core that the thread it waits for needs.
    # Short spins cut the slowest frame beside a busy program from 223 ms to 53 ms (2 cores, 256 px).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    _accept_any_character()
    if arguments is None:
        arguments = sys.argv[1:]
    parser = build_parser(arguments)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    if options.command in _TRAINING_COMMANDS:
        # MKL's threads add in an order that depends on where the arrays lie in memory, so that two trainings
        # with the same seed end with different students. AUTO fixes that order. MKL reads the variable once,
        # when torch is loaded.
        os.environ.setdefault("MKL_CBWR", "AUTO")
    try:
        code: int = options.run(options)
        return code
    except (LineMonitorError, CameraError) as error:
        return _fail(str(error))
    except (MemoryError, RuntimeError) as error:
        from monitor.system.out_of_memory import explain_memory_error

        fix = explain_memory_error(error, sized=hasattr(options, "size"))
        if fix is None:
            raise
        return _fail(fix)
    except KeyboardInterrupt:
        return _fail("interrupted")
    except BrokenPipeError:
        # The program that reads the output has ended, as in `line-monitor score ... | head`.
        sys.stderr.close()
        return FAILED


def build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all commands. Only the commands that occur in `arguments` have their own arguments."""
    parser = argparse.ArgumentParser(
        prog="line-monitor",
        description="Visual inspection of parts on a production line. Every part gets one verdict before its "
        "deadline: pass, reject, or uninspected with a reason.",
        epilog="The settings file is --config if given, else $LINE_MONITOR_CONFIG, else ./config/line.toml, "
        "else /etc/line-monitor/line.toml.",
    )
    parser.add_argument("--config", type=as_path, metavar="FILE", help="settings file of the line (TOML)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name in arguments:
            module = import_module(_MODULES.get(name, f"monitor.commands.{name}"))
            module.add_arguments(command)
            command.set_defaults(run=module.run)
        add_config(command)
    return parser


def _accept_any_character() -> None:
    """Print what the terminal's encoding lacks as escapes, so that a file's name can't end a command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _fail(message: str) -> int:
    if sys.stderr.isatty():
        # Erase an unfinished progress bar.
        sys.stderr.write("\r\x1b[K")
    for line in message.splitlines():
        print(f"line-monitor: {line}", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
