"""All faults of the plant, by name.

Each fault is a context manager: it breaks the plant on entry and repairs it on exit. It must leave nothing
behind, also when a test fails.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import zmq
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from monitor import paths
from monitor.line_state import messages
from tests.faults.plant import Plant, Unavailable
from tests.faults.scenario import Fault

Way = Callable[[Plant], AbstractContextManager[None]]
_MEMORY_GROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


def killed(worker: str) -> Way:
    @contextmanager
    def way(plant: Plant) -> Iterator[None]:
        plant.signal(worker, signal.SIGKILL)
        yield

    return way


def stopped(worker: str) -> Way:
    """The process hangs: it exists and does nothing."""

    @contextmanager
    def way(plant: Plant) -> Iterator[None]:
        pid = plant.signal(worker, signal.SIGSTOP)
        yield
        with contextlib.suppress(ProcessLookupError):  # the supervisor may have ended the process
            os.kill(pid, signal.SIGCONT)

    return way


@contextmanager
def supervisor_killed(plant: Plant) -> Iterator[None]:
    plant.line.process.kill()
    plant.line.process.wait()
    time.sleep(0.5)
    # Start the service again, as systemd does.
    plant.line.start()
    yield


@contextmanager
def service_stopped(plant: Plant) -> Iterator[None]:
    """Stop the service in the normal way and start it again."""
    plant.line.stop()
    plant.line.start()
    yield


@contextmanager
def supervisor_stopped(plant: Plant) -> Iterator[None]:
    plant.line.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        plant.line.process.send_signal(signal.SIGCONT)


@contextmanager
def scorer_slowed(plant: Plant) -> Iterator[None]:
    """The process gets the processor for one tenth of the time only."""
    pid, done = plant.line.pid("scoring"), threading.Event()

    def slow() -> None:
        with contextlib.suppress(ProcessLookupError):  # in case it ends for another reason
            while not done.is_set():
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.045)
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.005)

    thread = threading.Thread(target=slow)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def scorer_out_of_memory(plant: Plant) -> Iterator[None]:
    """The kernel ends the process, because its control group has no memory left."""
    group = _memory_group()
    pid = plant.line.pid("scoring")
    try:
        (group / "cgroup.procs").write_text(str(pid))
        limit = group / "memory.limit_in_bytes"
        with contextlib.suppress(OSError):  # cgroup 2 sets a limit even if it can't be met
            (limit if limit.exists() else group / "memory.max").write_text("64K")
        until = time.monotonic() + 10
        while Path(f"/proc/{pid}/exe").exists():
            if time.monotonic() > until:
                raise AssertionError("the scorer lives on with 64 kB")
            time.sleep(0.01)
        yield
    finally:
        _remove_group(group)


def _memory_group() -> Path:
    for place in _MEMORY_GROUPS:
        group = place / f"line-faults-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            if any((group / name).exists() for name in ("memory.limit_in_bytes", "memory.max")):
                return group
            group.rmdir()
    raise Unavailable("a memory control group can't be made on this machine")


def _remove_group(group: Path) -> None:
    until = time.monotonic() + 5
    while True:
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return


@contextmanager
def broker_down(plant: Plant) -> Iterator[None]:
    plant.broker.stop()
    try:
        yield
    finally:
        plant.broker.start()


@contextmanager
def broker_down_at_start(plant: Plant) -> Iterator[None]:
    plant.line.stop()
    plant.broker.stop()
    try:
        plant.line.start()
        yield
    finally:
        plant.broker.start()


@contextmanager
def broker_restarted(plant: Plant) -> Iterator[None]:
    plant.broker.stop()
    plant.broker.start()
    yield


@contextmanager
def broker_frozen(plant: Plant) -> Iterator[None]:
    plant.broker.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        plant.broker.signal(signal.SIGCONT)


@contextmanager
def broker_half_open(plant: Plant) -> Iterator[None]:
    """Packets between the line and the broker are dropped in both directions; both sides keep the connection
    open."""
    port = str(plant.line_port)
    rules = [
        ["INPUT", "-i", "lo", "-p", "tcp", direction, port, "-j", "DROP"]
        for direction in ("--dport", "--sport")
    ]
    try:
        for rule in rules:
            _firewall("-I", rule)
        yield
    finally:
        for rule in rules:
            with contextlib.suppress(Unavailable):  # a rule that was never inserted
                _firewall("-D", rule)


def _firewall(action: str, rule: list[str]) -> None:
    program = shutil.which("iptables") or shutil.which("iptables", path="/usr/sbin")
    if program is None:
        raise Unavailable("iptables is missing")
    done = subprocess.run([program, "-w", action, *rule], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"packets can't be dropped on this machine: {done.stderr.strip()}")


@contextmanager
def folder_lost(plant: Plant) -> Iterator[None]:
    away = plant.parts.rename(plant.folder / "away")
    try:
        yield
    finally:
        away.rename(plant.parts)


@contextmanager
def folder_corrupt(plant: Plant) -> Iterator[None]:
    """Every second image is cut in its middle or is not an image."""

    def torn(file: Path, index: int) -> bytes:
        whole = file.read_bytes()
        return (whole, whole[: len(whole) // 2], whole, b"", whole, b"no image")[index % 6]

    with _replaced(plant.parts, plant.folder / "parts-kept", torn):
        yield


@contextmanager
def folder_resized(plant: Plant) -> Iterator[None]:
    with _replaced(
        plant.parts,
        plant.folder / "parts-kept",
        lambda file, index: (plant.folder / "large-parts" / file.name).read_bytes(),
    ):
        yield


@contextmanager
def _replaced(folder: Path, kept: Path, content: Callable[[Path, int], bytes]) -> Iterator[None]:
    """The same files get other content, each by one rename."""
    shutil.copytree(folder, kept)

    def put(file: Path, data: bytes) -> None:
        fresh = folder.parent / "fresh"
        fresh.write_bytes(data)
        fresh.rename(file)

    try:
        for index, file in enumerate(sorted(folder.iterdir())):
            put(file, content(file, index))
        yield
    finally:
        for file in sorted(kept.iterdir()):
            put(folder / file.name, file.read_bytes())
        shutil.rmtree(kept)


@contextmanager
def rtsp_lost(plant: Plant) -> Iterator[None]:
    plant.rtsp.stop()
    try:
        yield
    finally:
        plant.rtsp.start()


@contextmanager
def rtsp_frozen(plant: Plant) -> Iterator[None]:
    plant.rtsp.pause()
    try:
        yield
    finally:
        plant.rtsp.resume()


@contextmanager
def rtsp_corrupt(plant: Plant) -> Iterator[None]:
    plant.relay.damages = True
    try:
        yield
    finally:
        plant.relay.damages = False


@contextmanager
def rtsp_resized(plant: Plant) -> Iterator[None]:
    """The camera is set to a larger image and starts again."""
    small = plant.rtsp
    small.stop()
    plant.rtsp = plant.dome(plant.folder / "large-dome").start()
    try:
        yield
    finally:
        plant.rtsp.stop()
        plant.rtsp = small.start()


@contextmanager
def gige_lost(plant: Plant) -> Iterator[None]:
    plant.gige.stop()
    try:
        yield
    finally:
        plant.gige.start()


@contextmanager
def gige_frozen(plant: Plant) -> Iterator[None]:
    plant.gige.pause()
    try:
        yield
    finally:
        plant.gige.resume()


@contextmanager
def gige_incomplete(plant: Plant) -> Iterator[None]:
    """Packets of the camera's images are lost on the network."""
    plant.gige.lose_packets()
    try:
        yield
    finally:
        plant.gige.lose_packets()


@contextmanager
def gige_resized(plant: Plant) -> Iterator[None]:
    plant.gige.change_size()
    try:
        yield
    finally:
        plant.gige.change_size()


@contextmanager
def disk_full(plant: Plant) -> Iterator[None]:
    _needs_mount(plant)
    filler = paths.snapshots(plant.line.settings) / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):  # write until there is no space left
        while True:
            file.write(bytes(1 << 20))
            file.flush()
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def disk_read_only(plant: Plant) -> Iterator[None]:
    _needs_mount(plant)
    place = str(paths.snapshots(plant.line.settings))

    def remount(option: str) -> None:
        # A file that is being written delays the remount for a moment.
        until = time.monotonic() + 5
        while subprocess.run(["mount", "-o", f"remount,{option}", place], check=False).returncode:
            if time.monotonic() > until:
                raise AssertionError(f"{place} can't be remounted {option}")
            time.sleep(0.01)

    remount("ro")
    try:
        yield
    finally:
        remount("rw")


def _needs_mount(plant: Plant) -> None:
    if not plant.mounted:
        raise Unavailable("this machine does not permit mounts")


@contextmanager
def journal_locked(plant: Plant) -> Iterator[None]:
    other = sqlite3.connect(paths.journal(plant.line.settings), timeout=5, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        other.close()


def clock_stepped(seconds: int) -> Way:
    @contextmanager
    def way(plant: Plant) -> Iterator[None]:
        plant.clock.step(seconds)
        try:
            yield
        finally:
            plant.clock.step(0)

    return way


@contextmanager
def mqtt_flooded(plant: Plant) -> Iterator[None]:
    """Another client publishes to the line's topics, because the broker has no access rules."""
    chance, done = random.Random(1), threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect("127.0.0.1", plant.broker.port)
    client.loop_start()
    prefix = plant.line.settings.prefix
    to_the_line = ("top/ack", "no-such/ack", "top/recipe/set", "no-such/recipe/set", "recipe/set", "side/ack")
    of_parts = ("top/verdict", "top/reject", "dome/verdict", "side/reject", "no-such/verdict")
    of_the_line = ("status", "heartbeat")
    no_json_object = (b"", b"null", b"7", b'"ready"', b"[" * 5000, b'{"event_id": "\xff"}', bytes(999))
    senseless = (
        b"{}",
        b'{"event_id": 7, "result": []}',
        b'{"frame": Infinity, "ttl_ms": Infinity}',
        b'{"frame": NaN, "ttl_ms": -1e999}',
        b'{"frame": {}, "ttl_ms": "", "captured_utc": 1e999}',
    )

    def flood() -> None:
        while not done.is_set():
            for _ in range(50):
                # No valid JSON object is sent as status: it would be a false status, which the witness can't
                # tell from a real one.
                topic = chance.choice((*to_the_line, *of_parts, *of_the_line))
                payload = chance.choice(
                    no_json_object if topic in of_the_line else no_json_object + senseless
                )
                client.publish(f"{prefix}/{topic}", payload, qos=0)
            time.sleep(0.05)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        client.disconnect()
        client.loop_stop()


@contextmanager
def queues_flooded(plant: Plant) -> Iterator[None]:
    """A process of the same user writes invalid messages into the workers' queues."""
    chance, done = random.Random(2), threading.Event()

    def flood() -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        sockets = [
            messages.open_sender(context, plant.line.folder, name)
            for name in (messages.FRAMES, messages.VERDICTS, messages.SNAPSHOTS)
        ]
        garbage = (
            [b""],
            [b"\xc1" * 10],
            [bytes(5000)],
            [b"\x93\x01\xa3top\x07", b"x", b"y", b"z"],
            [b"\x94"] * 3,
        )
        while not done.is_set():
            for _ in range(50):
                for socket in sockets:
                    if socket.poll(0, zmq.POLLOUT):
                        socket.send_multipart(chance.choice(garbage), zmq.NOBLOCK)
            time.sleep(0.05)
        for socket in sockets:
            socket.close()
        context.term()

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


_CAPTURES = ("capture-top", "capture-dome", "capture-side")

FAULTS: tuple[Fault, ...] = (
    *(
        Fault(f"kill -9 {worker}", killed(worker), ends=worker)
        for worker in ("scoring", "publish", "snapshots", *_CAPTURES)
    ),
    *(
        Fault(f"kill -STOP {worker}, 12 s", stopped(worker), 12.0, ends=worker)
        for worker in ("scoring", "publish", "snapshots", *_CAPTURES)
    ),
    Fault(
        "kill -9 the supervisor, service started anew",
        supervisor_killed,
        whole_within_s=20,
        ends_service=True,
    ),
    Fault("kill -STOP the supervisor, 5 s", supervisor_stopped, 5.0),
    Fault("orderly stop and start", service_stopped, whole_within_s=20, ends_service=True),
    Fault("scorer ten times slower, 8 s", scorer_slowed, 8.0),
    Fault("scorer out of memory", scorer_out_of_memory, ends="scoring"),
    Fault("no broker at the start, 8 s", broker_down_at_start, 8.0, whole_within_s=20, ends_service=True),
    Fault("broker away, 60 s", broker_down, 60.0),
    Fault("broker away, 5 s", broker_down, 5.0),
    Fault("broker restarted", broker_restarted),
    Fault("broker frozen, 8 s", broker_frozen, 8.0, holds_back=True),
    Fault("connection to the broker half open, 8 s", broker_half_open, 8.0, holds_back=True),
    Fault("folder of images gone, 3 s", folder_lost, 3.0),
    Fault("corrupt images in the folder, 4 s", folder_corrupt, 4.0),
    Fault("folder's images of another size, 4 s", folder_resized, 4.0),
    Fault("RTSP camera gone, 6 s", rtsp_lost, 6.0),
    Fault("RTSP camera frozen, 8 s", rtsp_frozen, 8.0),
    Fault("RTSP stream damaged, 6 s", rtsp_corrupt, 6.0),
    Fault("RTSP camera of another size, 6 s", rtsp_resized, 6.0),
    Fault("GigE camera gone, 6 s", gige_lost, 6.0),
    Fault("GigE camera frozen, 8 s", gige_frozen, 8.0),
    Fault("GigE packets lost, 5 s", gige_incomplete, 5.0),
    Fault("GigE camera of another size, 5 s", gige_resized, 5.0),
    Fault("snapshot disk full, 6 s", disk_full, 6.0),
    Fault("snapshot disk read-only, 6 s", disk_read_only, 6.0),
    Fault("journal locked, 8 s", journal_locked, 8.0),
    Fault("wall clock an hour ahead, 5 s", clock_stepped(3600), 5.0),
    Fault("wall clock an hour behind, 5 s", clock_stepped(-3600), 5.0),
    Fault("flood of malformed MQTT messages, 5 s", mqtt_flooded, 5.0),
    Fault("flood of malformed messages in the queues, 5 s", queues_flooded, 5.0),
)
