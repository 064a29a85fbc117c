"""A running review page on a free port of this machine, and snapshots as the line writes them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from types import TracebackType

from monitor.images.overlay import Caption, draw_overlay
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import REFERENCE
from monitor.review.snapshot_files import Key
from monitor.settings import SnapshotSettings
from monitor.snapshots.folder import SnapshotFolder
from monitor.training.thresholds import make_calibration
from monitor.verdict import rfc3339, snapshot_path
from tests.real.parts import random_recipe
from tests.real.parts_folder import bad, good
from tests.real.port import free_port

RECIPE = "plate"


def write_snapshots(data: Path, count: int, bad_every: int = 2) -> list[Key]:
    """Writes rejects of the camera `top` and the recipe `plate`, one a minute until now, oldest first.

    Every `bad_every`-th part is bad. The recipe's student is not trained: its scores don't separate good
    parts from bad ones.
    """
    folder = SnapshotFolder(data / "snapshots", SnapshotSettings(min_free_gb=0))
    draft = random_recipe(data / "recipes" / RECIPE)
    # To compile the model for OpenVINO would take longer than to score.
    judge = partial(Scorer, device="cpu", runtime="torch")
    scores = [result.score for result in judge(draft).score([good(900 + n) for n in range(12)])]
    scorer = judge(draft.with_calibration({REFERENCE: make_calibration(scores, 0.1)}).commit())
    keys = []
    for n in range(count):
        image = bad(n) if n % bad_every == 0 else good(n)
        result = scorer.score([image])[0]
        # The score of a good part is raised above the threshold, as bad light would raise it.
        utc_ns = int((datetime.now(UTC) - timedelta(minutes=count - n)).timestamp() * 1e9)
        score = max(result.score, 1.05 * scorer.threshold)
        path = snapshot_path(utc_ns, "top", n + 1, score)
        payload = {
            "schema": 1,
            "verdict": "reject",
            "score": score,
            "threshold": scorer.threshold,
            "recipe": RECIPE,
            "recipe_sha": scorer.recipe.sha,
            "camera": "top",
            "frame": n + 1,
            "captured_utc": rfc3339(utc_ns),
        }
        caption = Caption(
            score=score,
            threshold=scorer.threshold,
            verdict="reject",
            recipe=RECIPE,
            camera="top",
            frame=n + 1,
            captured_utc=rfc3339(utc_ns),
        )
        drawn = draw_overlay(image, result.anomaly_map, caption)
        folder.write(path, drawn, image, payload)
        day, camera, name = path.split("/")
        keys.append(Key.parse(day, camera, name.removesuffix(".jpg")))
    return keys


class ReviewPage:
    """`with ReviewPage(data) as page:` runs `line-monitor review` over a line's data folder.

    `more` are further lines of the settings' [review]. Requests go to `host`; the page is served there too,
    unless `more` names another host.
    """

    def __init__(self, data: Path, more: str = "", host: str = "127.0.0.1") -> None:
        self.port, self._host = free_port(), host
        self.address = f"http://{host}:{self.port}"
        if "host =" not in more:
            more = f'host = "{host}"\n{more}'
        self.config = data.parent / "line.toml"
        self.config.write_text(
            f'[line]\nsite = "plant"\nname = "line"\ndata = "{data}"\n[snapshots]\nmin_free_gb = 0.0\n'
            f"[review]\nport = {self.port}\n{more}\n"
        )
        self.log = self.config.with_suffix(".log")

    def __enter__(self) -> ReviewPage:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "monitor.cli", "--config", str(self.config), "review"],
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + 20
        while not self._is_up():
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"no review page:\n{self.log.read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
        if error is not None:
            print(self.log.read_text())

    def _is_up(self) -> bool:
        try:
            return self.get("/alive")[0].status == 204
        except OSError:
            return False

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[HTTPResponse, bytes]:
        return self._request("GET", path, None, headers or {})

    def post(self, path: str, form: str, headers: dict[str, str] | None = None) -> tuple[HTTPResponse, bytes]:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._request("POST", path, form, {**kind, **(headers or {})})

    def _request(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection(self._host, self.port, timeout=10)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()
