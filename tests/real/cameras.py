"""Cameras for tests: a real RTSP server and a GigE Vision camera, each in its own process.

They run with the system's Python, because GStreamer and Aravis come from Debian packages. A missing package
is an error with its name, never a skipped test.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.real.port import free_port

_PYTHON = "/usr/bin/python3"
_HERE = Path(__file__).parent


class _ServerProcess:
    """A server process with `start`, `stop`, `kill`, `pause` and `resume`. `start` returns when the server
    answers."""

    script: str
    packages: str

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None

    def arguments(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> Self:
        with tempfile.NamedTemporaryFile(prefix=self.script, suffix=".log", delete=False) as log:
            self._log = Path(log.name)
            self._process = subprocess.Popen(
                [_PYTHON, str(_HERE / self.script), *self.arguments()], stdout=log, stderr=log
            )
        until = time.monotonic() + 15
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            if self.answers():
                return self
            time.sleep(0.05)
        said = self._log.read_text(errors="replace")
        self.kill()
        raise RuntimeError(
            f"{self.script} did not start. It needs: apt-get install {self.packages} (deploy/test.sh does). "
            f"Its output: {said}"
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        """Stop the process without ending it: connections stay open, nothing is sent."""
        self._tell(signal.SIGSTOP)

    def resume(self) -> None:
        self._tell(signal.SIGCONT)

    def _tell(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        log, self._log = self._log, None
        if log is not None:
            log.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class RtspServer(_ServerProcess):
    """`with RtspServer() as server:` serves H.264 at `server.url`; a folder's images must be all of one size.

    It can be stopped and started again on the same port.
    """

    script = "rtsp_server.py"
    packages = "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"

    def __init__(
        self,
        port: int | None = None,
        size: tuple[int, int] = (320, 240),
        fps: int = 25,
        folder: Path | None = None,
        user: str | None = None,
        password: str | None = None,
        udp_only: bool = False,
    ) -> None:
        super().__init__()
        self._udp_only = udp_only
        self.port = port or free_port()
        self._size = size
        self._fps = fps
        self._folder = folder
        self._user = user
        self._password = password

    @property
    def url(self) -> str:
        """The URL with user and password, if the server needs them."""
        login = f"{self._user}:{self._password}@" if self._user else ""
        return f"rtsp://{login}127.0.0.1:{self.port}/live"

    def arguments(self) -> list[str]:
        given = ["--port", str(self.port), "--fps", str(self._fps), "--size", "x".join(map(str, self._size))]
        if self._folder:
            given += ["--folder", str(self._folder)]
        if self._udp_only:
            given.append("--udp-only")
        if self._user:
            given += ["--user", self._user, "--password", self._password or ""]
        return given

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.settimeout(1)
                request = f"OPTIONS rtsp://127.0.0.1:{self.port}/live RTSP/1.0\r\nCSeq: 1\r\n\r\n"
                probe.sendall(request.encode())
                return probe.recv(100).startswith(b"RTSP/1.0 ")
        except OSError:
            return False


class GigeCamera(_ServerProcess):
    """`with GigeCamera("SN01") as camera:` is found as `camera.source`: 512x512 Mono8, 25 images a second.

    All such cameras use the same GigE Vision port of 127.0.0.1, so only one can run at a time.
    """

    script = "gige_camera.py"
    packages = "python3-gi gir1.2-aravis-0.8"

    def __init__(self, serial: str = "SN01") -> None:
        super().__init__()
        self._serial = serial

    @property
    def source(self) -> str:
        return f"gige://Aravis-Fake-{self._serial}"

    def arguments(self) -> list[str]:
        return ["--serial", self._serial]

    def lose_packets(self) -> None:
        """Lose every twentieth packet of an image from now on; a second call ends this."""
        self._tell(signal.SIGUSR1)

    def change_size(self) -> None:
        """Halve the width of the images during the stream; a second call restores it."""
        self._tell(signal.SIGUSR2)

    def withhold_images(self) -> None:
        """Send no more images until the next start; the camera still answers requests."""
        self._tell(signal.SIGHUP)

    def answers(self) -> bool:
        # A GVCP request that reads the control privilege register. Any valid answer is accepted.
        request = bytes([0x42, 0x01, 0x00, 0x80, 0x00, 0x04, 0x00, 0x01, 0x00, 0x00, 0x0A, 0x00])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.3)
            try:
                probe.connect(("127.0.0.1", 3956))
                probe.send(request)
                return probe.recv(100)[2:4] == b"\x00\x81"
            except OSError:
                return False
