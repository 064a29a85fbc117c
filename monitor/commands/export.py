"""`line-monitor export`: writes a recipe as an ONNX or OpenVINO model for other programs."""

from __future__ import annotations

import argparse

from monitor.commands.arguments import RECIPE_HELP, as_path, find_version, load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help=RECIPE_HELP)
    parser.add_argument(
        "--format", choices=("onnx", "openvino"), required=True, help="file format of the model"
    )
    parser.add_argument(
        "--precision",
        choices=("f32", "int8"),
        default="f32",
        help="number format of the model (default: f32); int8 needs --format openvino",
    )
    parser.add_argument(
        "-o",
        "--out",
        type=as_path,
        metavar="FILE",
        help="the file to write (default: RECIPE.onnx or RECIPE.xml)",
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")


def run(options: argparse.Namespace) -> int:
    from monitor.inference.export import export

    settings = load_settings(options)
    export(
        find_version(settings, options.recipe),
        form=options.format,
        precision=options.precision,
        out=options.out,
        force=options.force,
        say=print,
    )
    return 0
