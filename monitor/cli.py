"""The `line-monitor` command: parses arguments, runs one command, prints an expected error as one line.

It knows nothing of what a command does, and imports only the module of the command that was named: `--help`
answers without torch.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from drivers.camera import CameraError
from monitor.commands.arguments import FAILED, USAGE, add_config
from monitor.errors import LineMonitorError

COMMANDS = {
    "demo": "the whole line on simulated cameras, nothing to set up",
    "check": "is everything there that the line needs? with the fix",
    "cameras": "list the GigE Vision cameras found",
    "collect": "save frames of a camera for training",
    "train": "train a recipe from images of good parts",
    "calibrate": "set a recipe's threshold anew from good images, or its presence gate",
    "score": "score image files, one JSON line each",
    "evaluate": "accuracy on a labelled set in MVTec AD's layout",
    "export": "a recipe as an ONNX or OpenVINO model, to run it elsewhere",
    "teacher": "list, fetch or make what students learn from",
    "journal": "rejects and uninspected parts, and what became of them",
    "bench": "how fast this machine scores, carries and publishes",
    "run": "the service: cameras to verdicts, until stopped",
    "review": "the operators' web page alone",
}
_MODULES = {"bench": "monitor.commands.bench.command"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 on success, 1 on a failure explained on stderr, 2 on wrong usage."""
    # A thread of OpenMP that spins while it waits keeps the thread it waits for off its core. With short
    # spins the slowest frame beside a busy program took 53 ms instead of 223 (2 cores, 256 px).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # MKL's threads add in an order that depends on where the arrays lie in memory, so that two trainings with
    # the same seed end with different students. AUTO fixes that order. MKL reads the variable once, when
    # torch is loaded.
    os.environ.setdefault("MKL_CBWR", "AUTO")
    _accept_any_character()
    if arguments is None:
        arguments = sys.argv[1:]
    parser = build_parser(arguments)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    try:
        code: int = options.run(options)
        return code
    except (LineMonitorError, CameraError) as error:
        return _fail(str(error))
    except (MemoryError, RuntimeError) as error:
        from monitor.system.out_of_memory import advice

        fix = advice(error, sized=hasattr(options, "size"))
        if fix is None:
            raise
        return _fail(fix)
    except KeyboardInterrupt:
        return _fail("interrupted")
    except BrokenPipeError:
        # The reader of the output went away (`| head`).
        sys.stderr.close()
        return FAILED


def build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser with all commands, and the arguments of those commands that are named in `arguments`."""
    parser = argparse.ArgumentParser(
        prog="line-monitor",
        description="One verdict for every part on a line, before its deadline: pass, reject, or uninspected "
        "with a reason.",
        epilog="The settings file is --config, else $LINE_MONITOR_CONFIG, else ./config/line.toml, "
        "else /etc/line-monitor/line.toml.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the line's settings (TOML)")
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
    """Escape what the terminal's encoding lacks: a file's name must not end a command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _fail(message: str) -> int:
    if sys.stderr.isatty():
        # Overwrite an unfinished progress bar.
        sys.stderr.write("\r\x1b[K")
    for line in message.splitlines():
        print(f"line-monitor: {line}", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
