"""One running line for many tests, since its start takes the most time."""

from __future__ import annotations

import signal
import time
import uuid
from pathlib import Path
from types import TracebackType

from tests.real import parts_folder
from tests.real.line import Line, settings_text
from tests.real.mosquitto import Mosquitto
from tests.real.recipe_request import ask, await_answer

DEADLINE_MS = 2000
CAMERA = """
[[camera]]
name = "top"
source = "folder://{parts}?fps=10&loop=1"
recipe = "plate"
deadline_ms = {deadline}
"""


class SharedLine(Line):
    """A line of one camera, `top`, at 10 frames a second, and its broker. Every fifth part is bad.

    `recover` makes it ready before each test, whatever the test before has broken.
    """

    def __init__(self, folder: Path, mqtt: str = "") -> None:
        self.truth = parts_folder.write_parts(folder / "parts", 20, bad_every=5)
        """Whether each part is bad, by its index in the camera's folder."""
        self.broker = Mosquitto()
        self.recipes = folder / "data/recipes"
        config = folder / "line.toml"
        camera = CAMERA.format(parts=folder / "parts", deadline=DEADLINE_MS)
        config.write_text(settings_text(camera, self.broker.port, mqtt))
        super().__init__(config, self.broker.port)
        self._written = config.read_text()
        self._log_from = 0

    def __enter__(self) -> SharedLine:
        self.broker.__enter__()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self.broker.__exit__(kind, error, trace)

    def recover(self) -> None:
        """Start what does not run, reset the line, put recipe `plate` in force, and forget what was heard."""
        if self.broker.runs:
            self.broker.signal(signal.SIGCONT)
        else:
            self.broker.start()
        if self.config.read_text() != self._written:
            self.config.write_text(self._written)
            self.process.send_signal(signal.SIGHUP)
        if self.process.poll() is not None:
            self.start()
        self.wait_for(self.witness.hears, 10, "subscription")
        self.wait_for(
            lambda: self.witness.status().get("state") not in (None, "offline", "starting"), 60, "status"
        )
        self.reset_until_ready(60)
        heard = self.witness.heard("top/verdict")
        if heard and heard[-1].payload["recipe"] != "plate":
            self._put_plate_in_force()
        self._log_from = self.log.stat().st_size
        # Answers to earlier requests are told apart by their request.
        self.witness.forget(time.monotonic(), keep=frozenset({"top/recipe"}))

    def _put_plate_in_force(self) -> None:
        request = str(uuid.uuid4())
        ask(self, "plate", request)
        await_answer(self, request, "in_force")

    def said(self) -> str:
        """The log since the test began."""
        with self.log.open("rb") as log:
            log.seek(self._log_from)
            return log.read().decode()
