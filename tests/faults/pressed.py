"""Measures the time from score to sent while the disk is full and the pages get 200 requests a second.

    .venv/bin/python -m tests.faults.pressed [--rounds 3] [--seconds 30]

Times with and without this load alternate on one running plant. The exit code is 1 when the 99th percentile
with load is more than 1.5 times that without and more than 5 ms, or when a promise was broken.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from tests.benchmarks.markdown import markdown
from tests.faults.audit import Part, Window, breaches
from tests.faults.catalogue import disk_full
from tests.faults.plant import Plant

_A_SECOND, _CLIENTS = 210, 16
_MOST_RATIO, _MOST_MS = 1.5, 5.0


class PageRequests:
    """`with PageRequests(port, path) as visitors:` requests a page many times a second."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._asked = self._turn = 0
        self.refused = 0
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(_CLIENTS)]

    def __enter__(self) -> PageRequests:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *rest: object) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()

    def a_second(self) -> float:
        """Number of answers so far."""
        return self._asked / (time.monotonic() - self._began)

    def _ask(self) -> None:
        while not self._closing.is_set():
            with self._lock:
                due = self._began + self._turn / _A_SECOND
                self._turn += 1
            time.sleep(max(0.0, due - time.monotonic()))
            connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
            try:
                connection.request("GET", self._path)
                answer = connection.getresponse()
                answer.read()
                refused = answer.status != 200
            finally:
                connection.close()
            with self._lock:
                self._asked += 1
                self.refused += refused


@contextmanager
def _pressure(plant: Plant, port: int, path: str) -> Iterator[PageRequests | None]:
    if not port:
        yield None
        return
    with disk_full(plant), PageRequests(port, path) as visitors:
        yield visitors


def took_ms(parts: list[Part]) -> list[float]:
    """Times from the score to the broker of the parts that were judged and sent."""
    return [
        (part.sent_ns - part.scored_ns) / 1e6
        for part in parts
        if part.scored_ns is not None and part.sent_ns is not None
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    times: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name, Plant(Path(name), pages=True) as plant:
        pressures = {
            "quiet": (0, ""),
            "disk full, review page": (plant.review_port, "/"),
            "disk full, metrics": (plant.metrics_port, "/metrics"),
        }
        for _ in range(options.rounds):
            for what, (port, path) in pressures.items():
                with _pressure(plant, port, path) as visitors:
                    time.sleep(2)
                    start = time.monotonic()
                    time.sleep(options.seconds)
                    window = Window(start, time.monotonic())
                parts = plant.audit.await_settled(window)
                times.setdefault(what, []).extend(took_ms(parts))
                wrong += breaches(parts, deaf=plant.audit.deaf())
                if visitors is not None:
                    rates.setdefault(what, []).append(visitors.a_second())
                    if visitors.refused:
                        wrong.append(f"{what}: {visitors.refused} requests were refused")
        wrong += plant.audit.trouble()
    quiet_ms = float(np.percentile(times["quiet"], 99))
    rows = [("", "requests a second", "parts", "median", "99th percentile", "of the quiet one")]
    for what, taken in times.items():
        median, p99 = np.percentile(taken, [50, 99])
        rate = f"{np.mean(rates[what]):.0f}" if what in rates else "0"
        ratio = p99 / quiet_ms
        rows.append((what, rate, str(len(taken)), f"{median:.1f} ms", f"{p99:.1f} ms", f"{ratio:.2f}"))
        if p99 > max(_MOST_MS, _MOST_RATIO * quiet_ms):
            wrong.append(f"{what}: 99th percentile {p99:.1f} ms, quiet {quiet_ms:.1f} ms")
    print(markdown(rows))
    for one in wrong:
        print(f"WRONG: {one}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
