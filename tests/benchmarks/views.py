"""Measures how much later parts get their verdict because of live views beside them.

    .venv/bin/python -m tests.benchmarks.views [--seconds N] [--rounds N]

It uses the real service, a real Mosquitto, and folders of 640x480 images as cameras: one camera with 4 parts
a second, and in every second measurement three live views with 10, 15 and 25 frames a second beside it. Each
measurement is of a new start of the line; measurements with and without views take turns, so that other work
on the machine meets both. The recipe is a ResNet-18 at 256 pixels, trained for one epoch, because its
accuracy does not change the time.

Limits, counted in one view's turn (the median of the mixed line): the parts' median time from capture to sent
is at most 0.6 higher with views than without, and their 99th percentile at most 1.2 higher. No part is
uninspected. The exit code is 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from monitor.line_state.ring import Ring
from monitor.teachers.architectures import BUNDLED
from monitor.training.train_recipe import TrainingRequest, train_recipe
from tests.benchmarks.markdown import markdown
from tests.real import parts_folder
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto

_PARTS, _FPS = "parts", 4
_VIEWS = {"slow": 10, "middle": 15, "fast": 25}
"""The live views with their frames a second."""
_WARM_S = 5
_P50, _P99 = 0.6, 1.2


@dataclass
class Times:
    """Times in ms of the frames of one kind of line, over all its measurements."""

    sent: list[float] = field(default_factory=list)
    """Of the parts, from capture to sent."""
    waited: list[float] = field(default_factory=list)
    """Of the parts, how much of the time from capture to scoring a view's turn took. Other work on the
    machine does not change it except by making turns longer."""
    view_turns: list[float] = field(default_factory=list)
    view_frames: dict[str, int] = field(default_factory=dict)
    """By view, how many of its frames were judged."""
    uninspected: int = 0
    """How many parts were uninspected."""
    seconds: float = 0.0


@contextmanager
def running(folder: Path, views: dict[str, int]) -> Iterator[Line]:
    """A warm line with the camera of parts and these views."""

    def camera(name: str, fps: int, mode: str) -> str:
        return (
            f'[[camera]]\nname = "{name}"\nsource = "folder://{folder}/images?fps={fps}&loop=1"\n'
            f'recipe = "plate"\nmode = "{mode}"\ndeadline_ms = 2000\n'
        )

    with Mosquitto() as broker:
        config = folder / "line.toml"
        cameras = [camera(name, fps, "latest") for name, fps in views.items()]
        config.write_text(
            f'[line]\ndata = "data"\n{camera(_PARTS, _FPS, "every-part")}{"".join(cameras)}'
            f"[mqtt]\nport = {broker.port}\n[metrics]\nport = 0\n[review]\nport = 0\n"
            "[snapshots]\nmin_free_gb = 0\n",
            encoding="utf-8",
        )
        with Line(config, broker.port) as line:
            line.await_ready()
            time.sleep(_WARM_S)
            yield line


def measure(folder: Path, views: dict[str, int], seconds: float, times: Times) -> None:
    """Run a line for so long and add its times."""
    with running(folder, views) as line:
        rings = {name: line.ring(name) for name in (_PARTS, *views)}
        first = {name: ring.last_frame() + 1 for name, ring in rings.items()}
        before = sum(rings[_PARTS].tally().uninspected)
        time.sleep(seconds)
        last = {name: ring.last_frame() for name, ring in rings.items()}
        time.sleep(2.5)  # until the last part is sent
        times.uninspected += sum(rings[_PARTS].tally().uninspected) - before
        times.seconds += seconds
        turns = {name: view_turns(rings[name], first[name], last[name]) for name in views}
        for name, of_view in turns.items():
            times.view_turns += [(end - start) / 1e6 for start, end in of_view]
            times.view_frames[name] = times.view_frames.get(name, 0) + len(of_view)
        every_turn = [turn for of_view in turns.values() for turn in of_view]
        for number in range(first[_PARTS], last[_PARTS] + 1):
            frame, sent_ns = rings[_PARTS].frame(number), rings[_PARTS].sent_ns(number)
            scored = rings[_PARTS].scorer_verdict(number)
            if frame is not None and sent_ns:
                times.sent.append((sent_ns - frame.captured_ns) / 1e6)
            if frame is not None and scored is not None:
                waited = (
                    min(end, scored.started_ns) - max(start, frame.captured_ns) for start, end in every_turn
                )
                times.waited.append(sum(time_ns for time_ns in waited if time_ns > 0) / 1e6)
        for ring in rings.values():
            ring.close()


def view_turns(ring: Ring, first: int, last: int) -> list[tuple[int, int]]:
    """Begin and end in ns of the turns of a view's frames."""
    scored = (ring.scorer_verdict(number) for number in range(first, last + 1))
    return [(one.started_ns, one.scored_ns) for one in scored if one is not None and one.recipe_sha]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, metavar="N", help="of each measurement (60)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of both measurements (3)")
    options = parser.parse_args()
    alone, mixed = Times(), Times()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts_folder.write_parts(folder / "images", 20, bad_every=0)
        train_recipe(
            TrainingRequest(
                name="plate",
                recipes=folder / "data/recipes",
                images=folder / "images",
                teacher=BUNDLED,
                teacher_weights=None,
                teachers=folder,
                epochs=1,
            ),
            say=lambda line: None,
        )
        for number in range(options.rounds):
            measure(folder, {}, options.seconds, alone)
            measure(folder, _VIEWS, options.seconds, mixed)
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    return report(alone, mixed)


def report(alone: Times, mixed: Times) -> int:
    """Print the figures. Returns the exit code."""
    turn = float(np.median(mixed.view_turns))
    rows = [["parts", "p50 ms", "p99 ms", "parts sent", "uninspected"]]
    percentiles = {}
    for what, times in (("without views", alone), ("with three views", mixed)):
        p50, p99 = percentiles[what] = np.percentile(times.sent, (50, 99))
        rows.append([what, f"{p50:.1f}", f"{p99:.1f}", str(len(times.sent)), str(times.uninspected)])
    print(markdown(rows))
    rates = ", ".join(f"{name} {count / mixed.seconds:.1f}" for name, count in mixed.view_frames.items())
    print(f"\none view's turn: {turn:.1f} ms; frames judged a second: {rates}")
    p50, p99 = np.percentile(mixed.waited, (50, 99)) / turn
    print(f"a part waited for a view's turn: p50 {p50:.2f}, p99 {p99:.2f} of the median turn")
    later = (np.array(percentiles["with three views"]) - np.array(percentiles["without views"])) / turn
    missed = alone.uninspected + mixed.uninspected > 0
    for what, ratio, limit in (("p50", later[0], _P50), ("p99", later[1], _P99)):
        missed |= bool(ratio > limit)
        kept = "yes" if ratio <= limit else "NO"
        print(f"{what}: {ratio:.2f} of a view's turn later, at most {limit}: {kept}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
