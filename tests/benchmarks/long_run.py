"""Runs three kinds of cameras at once for minutes: `python -m tests.benchmarks.long_run --minutes 10`.

An RTSP camera, a GigE Vision camera and a folder of known good and bad parts run at once, with Mosquitto. It
prints whether every frame had one verdict, how many were judged and right, and the use of memory. The exit
code is 1 if a promise was broken. With `--outage`, the RTSP server and the GigE camera are off for 20 s each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from monitor.line_state.counts import count_verdicts
from monitor.line_state.ring import Ring
from monitor.verdict import Reason, Verdict
from tests.real import parts_folder
from tests.real.cameras import GigeCamera, RtspServer
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto

WORKERS = ("scoring", "publish", "snapshots", "capture-folder", "capture-rtsp", "capture-gige")


def settings(folder: Path, parts: Path, rtsp: str, gige: str, port: int, fps: float) -> Path:
    cameras = {
        "folder": f"folder://{parts}?fps={fps:g}&loop=1",
        "rtsp": rtsp,
        "gige": f"{gige}?fps={fps:g}",
    }
    text = f'[line]\nsite = "bench"\nname = "line"\ndata = "{folder / "data"}"\n'
    for name, source in cameras.items():
        text += f'[[camera]]\nname = "{name}"\nsource = "{source}"\nrecipe = "plate"\n'
    text += f"[mqtt]\nport = {port}\n[metrics]\nport = 0\n[snapshots]\nmin_free_gb = 0.0\n"
    file = folder / "line.toml"
    file.write_text(text)
    return file


def memory_mb(pid: int) -> float:
    """Private memory only: the rings are shared and have a fixed size."""
    rows = dict(
        row.split(":", 1) for row in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in row
    )
    return int(rows["RssAnon"].split()[0]) / 1024


def conserved(line: Line, camera: str, ring: Ring) -> list[str]:
    """What is wrong with one camera's verdicts; empty if nothing is wrong."""
    wrong = []
    told, last = line.witness.verdicts(camera), ring.last_frame()
    now = count_verdicts(ring)
    if now.frames != now.passed + now.rejected + sum(now.uninspected):
        wrong.append(f"{camera}: counts do not add up: {now}")
    for number in range(1, last + 1):
        closed, said = ring.final_verdict(number), told.get(number, set())
        if closed is None or len(said) != 1 or next(iter(said))[1] != closed.verdict.word:
            wrong.append(f"{camera} frame {number}: {closed} but told {said}")
    return wrong


def report(line: Line, camera: str, ring: Ring, truth: dict[int, bool] | None, outage: bool) -> list[str]:
    wrong = conserved(line, camera, ring)
    now, last = count_verdicts(ring), ring.last_frame()
    reasons = {reason.word: now.uninspected[reason] for reason in Reason if now.uninspected[reason]}
    judged = (now.passed + now.rejected) / max(1, last)
    text = f"{camera:7} {last} frames, {100 * judged:.2f} % judged, uninspected {reasons or 0}"
    if judged < 0.99 and not outage:
        wrong.append(f"{camera}: only {100 * judged:.2f} % judged")
    if truth is not None:
        right = considered = 0
        for number in range(1, last + 1):
            frame, closed = ring.frame(number), ring.final_verdict(number)
            if frame and closed and closed.verdict is not Verdict.UNINSPECTED:
                considered += 1
                right += (closed.verdict is Verdict.REJECT) == truth[frame.device_frame % len(truth)]
        text += f", {100 * right / max(1, considered):.2f} % of them right"
        if right < 0.99 * considered:
            wrong.append(f"{camera}: only {right} of {considered} right")
    print(text)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--fps", type=float, default=5.0, help="of each camera")
    parser.add_argument("--outage", action="store_true", help="20 s without RTSP, then 20 s without GigE")
    options = parser.parse_args()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name, Mosquitto() as broker:
        folder = Path(name)
        parts_folder.train(folder / "data/recipes", folder / "good")
        truth = parts_folder.write_parts(folder / "parts", 20, bad_every=5)
        with RtspServer(fps=int(options.fps)) as rtsp, GigeCamera("BENCH01") as gige:
            config = settings(folder, folder / "parts", rtsp.url, gige.source, broker.port, options.fps)
            with Line(config, broker.port) as line:
                line.await_ready()
                rings = {name: line.ring(name) for name in ("folder", "rtsp", "gige")}
                start = time.monotonic()
                samples: list[dict[str, float]] = []
                pids = {worker: line.pid(worker) for worker in WORKERS}
                if options.outage:
                    wrong += outages(line, {"rtsp": (rtsp, 5.0), "gige": (gige, 8.0)})
                while time.monotonic() - start < 60 * options.minutes:
                    samples.append({worker: memory_mb(pid) for worker, pid in pids.items()})
                    time.sleep(5)
                if pids != {worker: line.pid(worker) for worker in WORKERS}:
                    wrong.append("a worker was restarted")
                took = line.stop()
                print(f"stopped in {took:.1f} s")
                for camera, ring in rings.items():
                    known = truth if camera == "folder" else None
                    wrong += report(line, camera, ring, known, options.outage)
                kept = len(line.snapshots())
                named = sum(
                    message.payload["snapshot"] is not None
                    for camera in rings
                    for message in line.witness.heard(f"{camera}/verdict")
                )
                print(f"snapshots {kept} kept of {named} announced")
                if kept != named:
                    wrong.append("a snapshot that was announced is missing")
                settled = samples[len(samples) // 5 :]
                for worker in WORKERS if len(settled) > 4 else ():
                    third = max(1, len(settled) // 3)
                    early = sum(sample[worker] for sample in settled[:third]) / third
                    late = sum(sample[worker] for sample in settled[-third:]) / third
                    print(f"memory  {worker:15} {early:8.1f} MB early, {late:8.1f} MB late")
                    # The snapshot writer's memory grows with the sets in the folder, which `snapshots.max_gb`
                    # limits.
                    index = 0.001 * kept if worker == "snapshots" else 0
                    if late > 1.03 * early + 1 + index:
                        wrong.append(f"{worker}: memory grew from {early:.1f} to {late:.1f} MB")
    for row in wrong[:20]:
        print(f"WRONG: {row}")
    return int(bool(wrong))


def outages(line: Line, parts: dict[str, tuple[RtspServer | GigeCamera, float]]) -> list[str]:
    """Stop each camera for 20 s. Returns the broken promises."""
    wrong = []
    for name, (part, lost_within) in parts.items():

        def state(name: str = name) -> str:
            return str(line.witness.status()["cameras"][name])

        def judged(name: str = name) -> bool:
            recent = line.witness.heard(f"{name}/verdict", since=time.monotonic() - 1.0)
            return any(message.payload["verdict"] != "uninspected" for message in recent)

        gone = time.monotonic()
        part.stop()
        lost = line.wait_for(lambda: state() == "lost", lost_within, f"{name} lost")
        time.sleep(max(0.0, 20 - lost))
        others = [other for other in parts | {"folder": None} if other != name]
        disturbed = sum(
            message.payload["verdict"] == "uninspected"
            for other in others
            for message in line.witness.heard(f"{other}/verdict", since=gone)
        )
        part.start()
        back = line.wait_for(lambda: state() == "up" and judged(), 10, f"{name} up and judged")
        ready = line.wait_for(lambda: line.witness.status()["ready"] is True, 5, "ready")
        print(
            f"{name} away: lost after {lost:.1f} s, up and judged {back:.1f} s after its return, "
            f"ready {ready:.1f} s later; others uninspected meanwhile: {disturbed}"
        )
        if disturbed:
            wrong.append(f"{disturbed} frames of others were uninspected while {name} was away")
        time.sleep(5)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
