"""The connection to Ray: a Ray of its own on this machine, or a cluster that is there.

It knows nothing of recipes or archives. Ray plans the tasks, repeats those that a dead node took along, and
carries the data; nothing of that is written here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from monitor.fleet.fleet_error import FleetError, require_packages
from monitor.system.memory import usable_memory

LOCAL = "local"
_LEAST_STORE, _MOST_STORE = 96 << 20, 512 << 20
"""Bytes of Ray's object store on one machine: only paths and results pass through it, no images."""
_ENVIRONMENT = {
    # As `monitor.cli` sets them before torch is loaded.
    "MKL_CBWR": "AUTO",
    "GOMP_SPINCOUNT": "1000",
}

_ANSWER_S = 5.0
"""How long a cluster's address may take to answer."""


@dataclass(frozen=True)
class Needs:
    """What one task takes of a node."""

    cpus: int
    gpus: int = 0


@contextlib.contextmanager
def connect(address: str) -> Iterator[Any]:
    """The module `ray`, connected to `local`, `auto`, `ray://host:port` or `host:port`. Raises FleetError."""
    require_packages("ray", "pyarrow")
    _check_reachable(address)
    # Ray reads these when it is imported or started.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # The address is the one that is asked for.
    os.environ.pop("RAY_ADDRESS", None)
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options |= {
            "num_cpus": os.cpu_count(),
            "include_dashboard": False,
            "object_store_memory": max(_LEAST_STORE, min(_MOST_STORE, usable_memory() // 16)),
        }
    try:
        ray.init(address=address, **options)
    except Exception as error:  # noqa: BLE001 - Ray raises plain exceptions where a cluster does not answer
        ray.shutdown()
        raise FleetError(explain_no_connection(address, error)) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def explain_no_connection(address: str, error: BaseException) -> str:
    """Why there is no Ray to work with, in one line with the fix."""
    first = next(iter(str(error).splitlines()), type(error).__name__)
    if address == LOCAL:
        return (
            f"Ray did not start on this machine ({first}): it has about 30 s for that, so try again when the "
            "machine has less other work, and see whether memory and /tmp have room"
        )
    fix = "start one (ray start --head), or use --address local for this machine alone"
    if "uth" in first or "Failed to connect" in first:
        fix = (
            "if it asks for a token, set RAY_AUTH_MODE=token here and give this user the cluster's token; or "
            + fix
        )
    return f"no Ray cluster at {address!r} ({first}): {fix}"


def _check_reachable(address: str) -> None:
    """Raises FleetError where nothing answers at the address: Ray itself would try for minutes."""
    if address in (LOCAL, "auto"):
        return
    parts = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+?)\]?:(\d{1,5})", address)
    if parts is None:
        raise FleetError(f"--address {address!r} is not known: use local, auto or ray://host:10001")
    try:
        socket.create_connection((parts[1], int(parts[2])), timeout=_ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise FleetError(
            f"nothing answers at {address} ({error}): start the cluster (ray start --head), "
            "or use --address local for this machine alone"
        ) from None


def task_environment(cpus: int) -> dict[str, Any]:
    """Ray's runtime environment of a process with so many threads of OpenMP. A variable that is set where the
    command runs goes first."""
    own = {name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()}
    return {"env_vars": {**own, "OMP_NUM_THREADS": str(cpus)}}


def node_name(ray: Any) -> str:
    """The name of the node on which this process runs, for people to read."""
    return f"{os.uname().nodename}:{ray.get_runtime_context().get_node_id()[:6]}"


def largest_node(ray: Any) -> Needs:
    """The most processors and the most GPUs of any one node that is alive."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Needs(
        int(max((resources.get("CPU", 0) for resources in alive), default=0)),
        int(max((resources.get("GPU", 0) for resources in alive), default=0)),
    )


def count_fitting(ray: Any, need: Needs) -> int:
    """How many such tasks the nodes that are alive can run at once."""
    count = 0
    for node in ray.nodes():
        if node["Alive"]:
            by_cpu = int(node["Resources"].get("CPU", 0)) // need.cpus
            by_gpu = int(node["Resources"].get("GPU", 0)) // need.gpus if need.gpus else by_cpu
            count += min(by_cpu, by_gpu)
    return count


def find_misfits(needs: Mapping[str, Needs], largest: Needs) -> list[str]:
    """One line for each task that no node can run, with the fix. Ray would let it wait without an end."""
    return [
        f"{name}: cpus = {wish.cpus}, gpus = {wish.gpus}, but no node has more than {largest.cpus} "
        f"processors and {largest.gpus} GPUs: ask for less, or add a node"
        for name, wish in needs.items()
        if wish.cpus > largest.cpus or wish.gpus > largest.gpus
    ]


def explain_ray_error(error: BaseException) -> str:
    """What Ray says about a task that failed, in one line: the last line, without the name of the class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines else type(error).__name__
    return re.sub(r"^(?:\w+\.)*\w+(?:Error|Exception)(?:\(.*?\))?: ", "", last)
