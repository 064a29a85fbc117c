"""What fits on a cluster, and what Ray's errors say in one line."""

from __future__ import annotations

from monitor.fleet.ray_cluster import (
    Needs,
    explain_no_connection,
    explain_ray_error,
    find_misfits,
    task_environment,
)

MOST = "but no node has more than 2 processors and 0 GPUs: ask for less, or add a node"


def test_a_task_that_no_node_can_run_is_named_before_it_waits_without_an_end() -> None:
    needs = {"top": Needs(4), "side": Needs(1, 1), "back": Needs(2)}
    assert find_misfits(needs, Needs(2, 0)) == [
        f"top: cpus = 4, gpus = 0, {MOST}",
        f"side: cpus = 1, gpus = 1, {MOST}",
    ]


def test_an_error_of_a_task_is_its_last_line() -> None:
    said = "ray::MapWorker() (pid=1)\n  File x\nmonitor.fleet_error.FleetError: /data: it is another version"
    assert explain_ray_error(RuntimeError(said)) == "/data: it is another version"
    assert explain_ray_error(RuntimeError()) == "RuntimeError"


def test_a_ray_of_this_machine_that_does_not_start_is_no_missing_cluster() -> None:
    said = explain_no_connection("local", RuntimeError("The current node timed out during startup.\nmore"))
    assert said.startswith("Ray did not start on this machine (The current node timed out during startup.)")
    assert "--address" not in said
    assert "--address local" in explain_no_connection("auto", ConnectionError("no cluster"))


def test_a_training_has_as_many_threads_as_its_cpus() -> None:
    variables = task_environment(3)["env_vars"]
    assert variables["OMP_NUM_THREADS"] == "3"
    assert {"MKL_CBWR", "GOMP_SPINCOUNT"} < variables.keys()
