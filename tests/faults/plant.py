"""A small plant on one machine: three cameras of three kinds, a broker, the line, a gateway and the audit.

Each component is a real program in its own process, and a test can break it. The plant knows nothing of the
faults.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import cv2

from drivers import image_file
from monitor.line_state.frame import Frame
from monitor.line_state.latch_file import Latch
from tests.faults.audit import Audit, Window
from tests.faults.clock import SteppedClock
from tests.faults.relay import Relay
from tests.real import parts_folder
from tests.real.cameras import GigeCamera, RtspServer
from tests.real.gateway import Gateway
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto
from tests.real.port import free_port

CAMERAS = ("top", "dome", "side")
_FPS = {"top": 5, "dome": 5, "side": 3}
_TOLERANCE_S = 0.07
"""Less than half of the shortest time between two parts, which is 200 ms at most cameras."""
_ARRIVES_S = 0.12
_SNAPSHOTS = "size=160m"


class Unavailable(Exception):
    """This machine does not permit the fault. The message is the reason."""


class Plant:
    """`with Plant(folder) as plant:` starts all components and waits until the line is ready.

    `top` is a folder with every fifth part bad, `dome` has good parts over RTSP, and `side` is a GigE Vision
    camera with a test image that is unlike any good part. The line uses its own port of the broker, so that
    its connection can be cut while the others stay. With `pages` the line also serves metrics and the review
    page.
    """

    def __init__(self, folder: Path, recipe: Path | None = None, pages: bool = False) -> None:
        self.folder, self.data, self.parts = folder, folder / "data", folder / "parts"
        self._recipe = recipe
        self.metrics_port, self.review_port = (free_port(), free_port()) if pages else (0, 0)
        self.line_port = free_port()
        self._open = contextlib.ExitStack()
        self.held_back: list[Window] = []
        """The times in which the broker or the network delayed messages."""

    def __enter__(self) -> Plant:
        with contextlib.ExitStack() as opened:
            self._make(opened)
            self._open = opened.pop_all()
        return self

    def __exit__(self, *rest: object) -> None:
        self._open.close()

    def _make(self, opened: contextlib.ExitStack) -> None:
        self._raise_priority(opened)
        if self._recipe:
            shutil.copytree(self._recipe, self.data / "recipes/plate")
        else:
            parts_folder.train(self.data / "recipes", self.folder / "good")
        truth = parts_folder.write_parts(self.parts, 20, bad_every=5)
        parts_folder.write_parts(self.folder / "dome", 20, bad_every=0)
        self._enlarge()
        self.mounted = self._mount(opened)
        self.clock = SteppedClock(self.folder)
        self.broker = opened.enter_context(Mosquitto(extra=f"listener {self.line_port} 127.0.0.1"))
        self.rtsp = self.dome(self.folder / "dome")
        self.rtsp.start()
        opened.callback(lambda: self.rtsp.kill())
        self.relay = opened.enter_context(Relay(self.rtsp.port))
        self.gige = opened.enter_context(GigeCamera("PLANT01"))
        config = self._write_config()

        def top_is_bad(frame: Frame) -> bool:
            return truth[frame.device_frame % len(truth)]

        self.line = opened.enter_context(Line(config, self.broker.port, self.clock.environment))
        truths = {"top": top_is_bad, "dome": lambda frame: False, "side": lambda frame: True}
        periods_s = {name: 1 / fps for name, fps in _FPS.items()}
        self.audit = opened.enter_context(Audit(self.line, truths, periods_s))
        prefix = self.line.settings.prefix
        self.gateway = opened.enter_context(
            Gateway("127.0.0.1", self.broker.port, prefix, self.audit.at_gate, _TOLERANCE_S, _ARRIVES_S)
        )
        self.audit.gateway = self.gateway
        self.line.await_ready()
        self.line.wait_for(self.is_whole, 20, "verdicts of every camera")

    @staticmethod
    def _raise_priority(opened: contextlib.ExitStack) -> None:
        """The service's unit gives it CPUWeight=500; this is the same priority over other programs."""
        usual = os.getpriority(os.PRIO_PROCESS, 0)
        with contextlib.suppress(PermissionError):  # then all programs have the same priority
            os.setpriority(os.PRIO_PROCESS, 0, -7)
            opened.callback(os.setpriority, os.PRIO_PROCESS, 0, usual)

    def dome(self, folder: Path) -> RtspServer:
        """Replace the RTSP camera by one with other images; it becomes `Plant.rtsp`."""
        port = self.rtsp.port if hasattr(self, "rtsp") else None
        return RtspServer(port=port, fps=_FPS["dome"], folder=folder)

    def _enlarge(self) -> None:
        """The same parts at another resolution of the camera."""
        for name in ("parts", "dome"):
            large = self.folder / f"large-{name}"
            large.mkdir()
            for file in sorted((self.folder / name).iterdir()):
                image = image_file.read(file)
                cv2.imwrite(str(large / file.name), cv2.resize(image, None, fx=1.5, fy=1.5))

    def _mount(self, opened: contextlib.ExitStack) -> bool:
        """A small file system for the snapshots, which can be full or read-only for root too."""
        place = self.data / "snapshots"
        place.mkdir(parents=True)
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", _SNAPSHOTS, "tmpfs", str(place)], capture_output=True, check=False
        )
        if made.returncode == 0:
            opened.callback(subprocess.run, ["umount", "-l", str(place)], check=True)
        return made.returncode == 0

    def _write_config(self) -> Path:
        sources = {
            "top": f"folder://{self.parts}?fps={_FPS['top']}&loop=1",
            "dome": self.relay.url,
            "side": f"{self.gige.source}?fps={_FPS['side']}",
        }
        cameras = "".join(
            f'[[camera]]\nname = "{name}"\nsource = "{source}"\nrecipe = "plate"\ndeadline_ms = 500\n'
            for name, source in sources.items()
        )
        config = self.folder / "line.toml"
        config.write_text(
            f'[line]\nsite = "plant"\nname = "line"\ndata = "data"\n{cameras}'
            f"[mqtt]\nport = {self.line_port}\nack_timeout_ms = 3000\n[metrics]\nport = {self.metrics_port}\n"
            f"[review]\nport = {self.review_port}\n[snapshots]\nmin_free_gb = 0.0\nmax_gb = 0.06\n"
        )
        return config

    def is_whole(self) -> bool:
        """Whether the line is ready and judges the parts of every camera."""
        now = time.monotonic()
        return self.line.witness.status().get("ready") is True and all(
            any(
                message.payload.get("verdict") in ("pass", "reject")
                for message in self.line.witness.heard(f"{name}/verdict", since=now - 1.0)
            )
            for name in CAMERAS
        )

    def reset_if_latched(self) -> bool:
        """Send the reset of an operator who has checked the gate. Returns whether a reset was needed."""
        reason = self.line.witness.status().get("reason")
        if reason is None or reason not in [latch.word for latch in Latch]:
            return False
        self.line.witness.say("reset")
        return True

    def signal(self, worker: str, number: int) -> int:
        """Send the signal to the worker. Returns the worker's pid."""
        pid = self.line.pid(worker)
        subprocess.run(["kill", f"-{signal.Signals(number).name[3:]}", str(pid)], check=True)
        return pid

    def log_rows(self, start: int = 0) -> list[str]:
        """The line's log from a byte position on."""
        with self.line.log.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace").splitlines()

    def log_size(self) -> int:
        return self.line.log.stat().st_size
