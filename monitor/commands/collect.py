"""`line-monitor collect`: saves a camera's frames as training images."""

from __future__ import annotations

import argparse

from monitor.commands.arguments import as_path, load_settings, positive_integer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("camera", metavar="CAMERA", help="name of a camera in the settings")
    parser.add_argument(
        "--count", type=positive_integer, required=True, metavar="N", help="number of frames to save"
    )
    parser.add_argument(
        "--to",
        type=as_path,
        required=True,
        metavar="DIR",
        help="folder that gets the frames as PNG files",
    )


def run(options: argparse.Namespace) -> int:
    from monitor.capture.collect import collect

    camera = load_settings(options).camera_named(options.camera)
    collect(camera, options.count, options.to, say=print)
    return 0
