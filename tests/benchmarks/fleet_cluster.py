"""A Ray cluster of several nodes on this machine."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STORE = 80 << 20
"""Bytes of each node's object store."""


@contextmanager
def open_cluster(nodes: int, cpus: int, source_tree: str) -> Iterator[tuple[Any, list[Any]]]:
    """A cluster, and its nodes but the head. Each node has so many processors; programs find this source
    tree."""
    # A token of its own: nobody else may run code on this cluster.
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": source_tree,
    }
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **_node(cpus)})
    try:
        yield cluster, [cluster.add_node(**_node(cpus)) for _ in range(nodes - 1)]
    finally:
        cluster.shutdown()


def _node(cpus: int) -> dict[str, int]:
    return {"num_cpus": cpus, "object_store_memory": _STORE}
