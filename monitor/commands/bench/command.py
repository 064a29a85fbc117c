"""`line-monitor bench`: runs the measurements one after the other and prints them as tables.

It knows nothing of how each figure is measured; that is in the other modules of this folder.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.commands.arguments import CommandError, as_path, positive_integer

if TYPE_CHECKING:
    from monitor.commands.bench.line import LineRow
    from monitor.commands.bench.scoring import DeviceRow, ScoringRow
    from monitor.commands.bench.transport import TransportRow

SCHEMA = 1
Say = Callable[[str], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=as_path, metavar="FILE", help="also write the figures to FILE as JSON")
    parser.add_argument(
        "--teacher",
        default="resnet18",
        metavar="NAME",
        help="architecture of the network (default: resnet18)",
    )
    parser.add_argument(
        "--size",
        type=positive_integer,
        default=256,
        metavar="PX",
        help="width and height of the network's input in pixels (default: 256)",
    )
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    parser.add_argument(
        "--fps",
        type=positive_integer,
        default=5,
        metavar="N",
        help="frames a second of the line's camera (default: 5)",
    )
    parser.add_argument(
        "--seconds",
        type=positive_integer,
        default=40,
        metavar="N",
        help="approximate time to measure, in seconds (default: 40)",
    )


def run(options: argparse.Namespace) -> int:
    from monitor.teachers.architectures import architecture_of

    try:
        bench(
            Bench(
                architecture=architecture_of(options.teacher),
                size=options.size,
                device=options.device,
                fps=options.fps,
                seconds=options.seconds,
            ),
            options.json,
            say=functools.partial(print, flush=True),
        )
    except OSError as error:
        raise CommandError(f"{error.filename or options.json}: {error.strerror}") from None
    return 0


@dataclass(frozen=True)
class Bench:
    """What is measured, and for about how long."""

    architecture: str
    size: int
    device: str
    fps: int
    seconds: float


def bench(options: Bench, file: Path | None, *, say: Say) -> None:
    """Measure, print and write to `file`. Starting and stopping the line takes about 20 s more.

    Raises RecipeError, RingError, LineBenchError, and OSError when `file` can't be written, which is tried
    before the measurements.
    """
    import torch

    from monitor.inference.backends import choose_device
    from monitor.system.atomic_file import check_place, write_whole

    if file is not None:
        check_place(file)
    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    say(
        f"{options.architecture}, {options.size}x{options.size}, {options.device} on {machine}, "
        f"torch {torch.__version__}"
    )
    scoring = _bench_scoring(options, say)
    device = _bench_device(options, say) if choose_device(options.device).type == "cuda" else []
    transport = _bench_transport(options, say)
    line = _bench_line(options, scoring, say)
    if file is not None:
        figures = {
            "schema": SCHEMA,
            "architecture": options.architecture,
            "size": options.size,
            "device": options.device,
            "machine": machine,
            "torch": str(torch.__version__),
            "scoring": [{**asdict(row), "ratio": row.ratio} for row in scoring],
            "transport": [
                {**asdict(row), "ratio": row.ratio, "core_share_at_30": row.core_share_at_30}
                for row in transport
            ],
            "line": {**asdict(line), "fps": options.fps, "p50_ratio": line.p50_ms / _ms_to_score(scoring)},
            **({"device_scoring": [asdict(row) for row in device]} if device else {}),
        }
        write_whole(file, (json.dumps(figures, indent=1) + "\n").encode())


def _bench_scoring(options: Bench, say: Say) -> list[ScoringRow]:
    from monitor.commands.bench import scoring

    say("")
    say("scoring       batch   ms a frame   x arithmetic limit   preparing 1920x1080, ms")
    rows = []
    for row in scoring.measure(options.architecture, options.size, options.device, 0.4 * options.seconds):
        rows.append(row)
        name = f"{row.runtime}-{row.precision}"
        say(f"{name:<14}{row.batch:>5}{row.ms_per_frame:>13.2f}{row.ratio:>21.2f}{row.prepare_ms:>26.2f}")
    return rows


def _bench_device(options: Bench, say: Say) -> list[DeviceRow]:
    from monitor.commands.bench import scoring

    say("")
    say(f"on the device   ms from 1920x1080 to its score   frames a second, {scoring.RESIDENT} resident")
    rows = []
    for row in scoring.measure_device(
        options.architecture, options.size, options.device, 0.1 * options.seconds
    ):
        rows.append(row)
        say(f"{'torch-' + row.precision:<14}{row.ms_to_score:>34.2f}{row.frames_a_second:>31.0f}")
    return rows


def _bench_transport(options: Bench, say: Say) -> list[TransportRow]:
    from monitor.commands.bench import transport

    say("")
    say("transport     ms a frame   x plain copy   of one core at 30 a second")
    rows = []
    with tempfile.TemporaryDirectory(prefix="line-monitor-bench-") as folder:
        for height, width in transport.SIZES:
            row = transport.measure(height, width, Path(folder), 0.05 * options.seconds)
            rows.append(row)
            frame = f"{width}x{height}"
            say(f"{frame:<14}{row.ms:>10.3f}{row.ratio:>15.2f}{row.core_share_at_30:>29.1%}")
    return rows


def _bench_line(options: Bench, scoring: list[ScoringRow], say: Say) -> LineRow:
    from monitor.commands.bench import line

    say("")
    with tempfile.TemporaryDirectory(prefix="line-monitor-bench-") as folder:
        row = line.measure(Path(folder), options.size, options.device, options.fps, 0.4 * options.seconds)
    say(
        f"whole line, one camera, {options.fps} frames a second: {row.frames} frames, {row.uninspected} "
        f"uninspected; capture to publish p50 {row.p50_ms:.1f} ms "
        f"({row.p50_ms / _ms_to_score(scoring):.2f} x scoring alone), p99 {row.p99_ms:.1f} ms"
    )
    return row


def _ms_to_score(rows: list[ScoringRow]) -> float:
    """Time to prepare and score one frame in the way that the line runs its recipe, which has no int8
    model."""
    from monitor.inference.backends import INT8

    row = [row for row in rows if row.batch == 1 and row.precision != INT8][-1]
    return row.ms_per_frame + row.prepare_ms
