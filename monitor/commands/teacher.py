"""`line-monitor teacher`: list, fetch or make the teachers that students learn from."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from monitor.commands.arguments import (
    add_config,
    minutes,
    positive_integer,
    print_to_stderr,
    random_seed,
    teachers_folder,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="every teacher, and where its weights are on this machine")
    listing.set_defaults(action=_list)

    fetch = actions.add_parser("fetch", help="a teacher as one file, for a plant without a network")
    fetch.add_argument("name", metavar="NAME", help="as in the list")
    fetch.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: the data folder's teachers/")
    fetch.add_argument("--force", action="store_true", help="replace FILE if it is there")
    fetch.set_defaults(action=_fetch)

    make = actions.add_parser("make", help="teach a small network what a large one sees, without photographs")
    make.add_argument("--source", default="squeezenet1_1", metavar="NAME", help="whom from (squeezenet1_1)")
    make.add_argument("--source-weights", type=Path, metavar="FILE", help=".pth or .safetensors")
    make.add_argument(
        "--student", choices=("resnet18", "resnet34"), default="resnet18", help="who (resnet18)"
    )
    make.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="a .safetensors file")
    length = make.add_mutually_exclusive_group()
    length.add_argument("--steps", type=positive_integer, metavar="N", help="how long (4000)")
    length.add_argument("--minutes", type=minutes, metavar="M", help="or by the clock")
    make.add_argument(
        "--seed", type=random_seed, default=0, metavar="N", help="same seed and steps, same teacher (0)"
    )
    make.add_argument("--bfloat16", action="store_true", help="faster on processors that calculate in it")
    make.add_argument("--force", action="store_true", help="replace FILE if it is there")
    make.set_defaults(action=_make)

    for action in actions.choices.values():
        add_config(action)


def run(options: argparse.Namespace) -> int:
    options.action(options)
    return 0


def _list(options: argparse.Namespace) -> None:
    from monitor.commands.teacher_files import known, table

    print(table(known(teachers_folder(options))))


def _fetch(options: argparse.Namespace) -> None:
    from monitor.commands.teacher_files import fetch_teacher

    folder = teachers_folder(options)
    fetch_teacher(options.name, folder=folder, out=options.out, force=options.force, say=print)


def _make(options: argparse.Namespace) -> None:
    from monitor.commands.teacher_files import make
    from monitor.system import progress

    make(
        source=options.source,
        source_weights=options.source_weights,
        student=options.student,
        out=options.out,
        steps=options.steps,
        minutes=options.minutes,
        seed=options.seed,
        bfloat16=options.bfloat16,
        force=options.force,
        folder=teachers_folder(options),
        say=print_to_stderr,
        progress=progress.on(sys.stderr),
    )
