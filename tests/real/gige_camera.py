"""A real GigE Vision camera on loopback for tests: Aravis' own fake camera, in a process of its own.

Run by the system's Python: `/usr/bin/python3 gige_camera.py --serial SN01`. Its scene moves: a ramp,
one step a frame.
"""

import argparse

import gi

gi.require_version("Aravis", "0.8")
from gi.repository import Aravis, GLib  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serial", default="SN01")
    parser.add_argument("--interface", default="lo")
    options = parser.parse_args()
    camera = Aravis.GvFakeCamera.new(options.interface, options.serial)
    if not camera.is_running():
        raise SystemExit(f"no fake camera on interface {options.interface}")
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
