"""A GigE Vision camera on the loopback network for tests: Aravis' fake camera in its own process.

It runs with the system's Python: `/usr/bin/python3 gige_camera.py --serial SN01`. Its image is a ramp that
moves by one step a frame. SIGUSR1 starts and ends the loss of packets. SIGUSR2 halves and restores the width
of its image during the stream. SIGHUP stops its images, but it still answers requests.
"""

import argparse
import signal

import gi

gi.require_version("Aravis", "0.8")
from gi.repository import Aravis, GLib  # noqa: E402

_WIDTH_REGISTER, _ACQUISITION_REGISTER = 0x100, 0x124
_LOST = 0.05


class Loss:
    """Numbers of the lost packets, spread over an image."""

    def __init__(self, camera: Aravis.GvFakeCamera) -> None:
        self._camera, self._on = camera, False

    def toggle(self) -> bool:
        self._on = not self._on
        self._camera.set_property("gvsp-lost-ratio", _LOST if self._on else 0.0)
        return True


def toggle_width(camera: Aravis.GvFakeCamera) -> bool:
    device = camera.get_fake_camera()
    _, width = device.read_register(_WIDTH_REGISTER)
    device.write_register(_WIDTH_REGISTER, 256 if width == 512 else 512)
    return True


def stop_images(camera: Aravis.GvFakeCamera) -> bool:
    camera.get_fake_camera().write_register(_ACQUISITION_REGISTER, 0)
    return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serial", default="SN01")
    parser.add_argument("--interface", default="lo")
    options = parser.parse_args()
    camera = Aravis.GvFakeCamera.new(options.interface, options.serial)
    if not camera.is_running():
        raise SystemExit(f"no fake camera on interface {options.interface}")
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGUSR1, Loss(camera).toggle)
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGUSR2, toggle_width, camera)
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGHUP, stop_images, camera)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
