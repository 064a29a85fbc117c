"""`line-monitor bench`: the measurements one after the other, as a table and as JSON."""

from __future__ import annotations

import argparse
import functools
import json
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from monitor.commands.arguments import CommandError, positive_integer
from monitor.system.atomic_file import check_place, write_whole

SCHEMA = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures for programs")
    parser.add_argument("--teacher", default="resnet18", metavar="NAME", help="architecture (resnet18)")
    parser.add_argument(
        "--size", type=positive_integer, default=256, metavar="PX", help="network input (256)"
    )
    parser.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, cuda:1 (auto)")
    parser.add_argument(
        "--fps", type=positive_integer, default=5, metavar="N", help="of the line's camera (5)"
    )
    parser.add_argument(
        "--seconds", type=positive_integer, default=40, metavar="N", help="about, to measure (40)"
    )


def run(options: argparse.Namespace) -> int:
    from monitor.teachers.architectures import architecture_of

    try:
        bench(
            architecture=architecture_of(options.teacher),
            size=options.size,
            device=options.device,
            fps=options.fps,
            seconds=options.seconds,
            file=options.json,
            say=functools.partial(print, flush=True),
        )
    except OSError as error:
        raise CommandError(f"{error.filename or options.json}: {error.strerror}") from None
    return 0


def bench(
    *,
    architecture: str,
    size: int,
    device: str,
    fps: int,
    seconds: float,
    file: Path | None,
    say: Callable[[str], None],
) -> None:
    """Takes about `seconds`, and some twenty more to start and stop the line.

    Raises RecipeError, RingError, line.LineBenchError, and OSError when `file` can't be written, which is
    tried first.
    """

    from monitor.commands.bench import line, scoring, transport
    from monitor.inference.backends import INT8, choose_device

    if file is not None:
        check_place(file)
    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    say(f"{architecture}, {size}x{size}, {device} on {machine}, torch {torch.__version__}")
    say("")
    say("scoring       batch   ms a frame   x arithmetic limit   preparing 1920x1080, ms")
    rows = []
    for row in scoring.measure(architecture, size, device, 0.4 * seconds):
        rows.append(row)
        name = f"{row.runtime}-{row.precision}"
        say(f"{name:<14}{row.batch:>5}{row.ms_per_frame:>13.2f}{row.ratio:>21.2f}{row.prepare_ms:>26.2f}")
    beside = []
    if choose_device(device).type == "cuda":
        say("")
        say(f"on the device   ms from 1920x1080 to its score   frames a second, {scoring.RESIDENT} resident")
        for found in scoring.measure_device(architecture, size, device, 0.1 * seconds):
            beside.append(found)
            say(f"{'torch-' + found.precision:<14}{found.ms_to_score:>34.2f}{found.frames_a_second:>31.0f}")
    say("")
    say("transport     ms a frame   x plain copy   of one core at 30 a second")
    carried = []
    with tempfile.TemporaryDirectory(prefix="line-monitor-bench-") as folder:
        for height, width in transport.SIZES:
            carry = transport.measure(height, width, Path(folder), 0.05 * seconds)
            carried.append(carry)
            frame = f"{width}x{height}"
            say(f"{frame:<14}{carry.ms:>10.3f}{carry.ratio:>15.2f}{carry.core_share_at_30:>29.1%}")
    say("")
    with tempfile.TemporaryDirectory(prefix="line-monitor-bench-") as folder:
        whole = line.measure(Path(folder), size, device, fps, 0.4 * seconds)
    # As the line runs its recipe, which is made without 8-bit integers.
    way = [row for row in rows if row.batch == 1 and row.precision != INT8][-1]
    scored = way.ms_per_frame + way.prepare_ms
    say(
        f"whole line, one camera of {fps} a second: {whole.frames} frames, {whole.uninspected} uninspected; "
        f"capture to publish p50 {whole.p50_ms:.1f} ms ({whole.p50_ms / scored:.2f} x scoring alone), "
        f"p99 {whole.p99_ms:.1f} ms"
    )
    if file is not None:
        tree = {
            "schema": SCHEMA,
            "architecture": architecture,
            "size": size,
            "device": device,
            "machine": machine,
            "torch": str(torch.__version__),
            "scoring": [{**asdict(row), "ratio": row.ratio} for row in rows],
            "transport": [
                {**asdict(row), "ratio": row.ratio, "core_share_at_30": row.core_share_at_30}
                for row in carried
            ],
            "line": {**asdict(whole), "fps": fps, "p50_ratio": whole.p50_ms / scored},
            **({"device_scoring": [asdict(found) for found in beside]} if beside else {}),
        }
        write_whole(file, (json.dumps(tree, indent=1) + "\n").encode())
