"""What is handed to the engineer is true: every command of the handbook runs, every metric named exists."""

from __future__ import annotations

import json
import re
import shutil
import time
import urllib.request
from pathlib import Path

import pytest

from tests.real import bundle, handbook, parts_folder
from tests.real.mosquitto import free_port
from tests.real.service import UNIT, Service, wait_for

pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]
DEPLOY = bundle.ROOT / "deploy"
RUN_HERE = {"log", "camera", "update", "backup", "restore", "broker", "gateway", "metrics"}
RUN_ELSEWHERE = {"bundle", "stage", "install", "start", "remove"}
"""By `test_install`, `test_systemd` and what these stand on."""


def test_every_block_of_commands_is_one_that_a_test_runs() -> None:
    assert None not in handbook.names()
    assert sorted(map(str, handbook.names())) == sorted(RUN_HERE | RUN_ELSEWHERE)


def test_the_log_is_read_as_written(installed: Service) -> None:
    warnings, follow = handbook.block("log", {}).splitlines()
    installed.do(warnings)
    said = installed.do(f"timeout 2 {follow} || test $? = 124")
    assert "supervisor: session" in said or "publish: line is" in said or "scoring" in said


def test_metrics_are_there_to_be_scraped(installed: Service) -> None:
    fetch, rules = handbook.block("metrics", {"9108": installed.metrics_port}).splitlines()
    assert shutil.which("curl"), "curl is missing: apt-get install curl (deploy/test.sh does)"
    assert "line_monitor_ready 1.0" in installed.do(fetch)
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here (Debian: prometheus): the rules are not checked by it")
    assert "SUCCESS" in installed.do(rules)


def test_dashboard_and_alerts_name_only_metrics_that_the_line_exports(installed: Service) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{installed.metrics_port}/metrics") as answer:
        text = answer.read().decode()
    kinds = dict(re.findall(r"^# TYPE (line_monitor_\w+) (\w+)$", text, re.M))
    exported = {
        f"{name}{end}"
        for name, kind in kinds.items()
        for end in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    shown = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    alerts = (DEPLOY / "prometheus-alerts.yml").read_text()
    for where in (
        shown,
        " ".join(re.findall(r"expr: (?:>-\n)?((?:.|\n)*?)\n        (?:for|labels):", alerts)),
    ):
        named = set(re.findall(r"\bline_monitor_\w+", where))
        assert len(named) >= 8
        assert named - exported == set()
    families = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\bline_monitor_\w+", shown)}
    assert set(kinds) - {name for name in kinds if name.endswith("_created")} <= families, "all are shown"


def test_a_broker_is_made_and_talked_to_as_written(installed: Service, tmp_path: Path) -> None:
    port, machine = free_port(), installed.machine
    ask = "mosquitto_passwd /etc/mosquitto/passwords"
    answered = ask.replace("_passwd ", "_passwd -b ")
    given = {f"{ask} line1": f"{answered} line1 other", f"{ask} gateway1": f"{answered} gateway1 secret"}
    names = {"broker.plant1.example": "localhost", "10.0.0.5": "127.0.0.1"}
    installed.do(handbook.block("broker", {**names, **given}))
    config = machine.path("/etc/mosquitto/conf.d/line-monitor.conf")
    config.write_text(config.read_text().replace("listener 8883", f"listener {port}"))
    machine.run("systemd-run", "--unit=broker", "mosquitto", "-c", "/etc/mosquitto/conf.d/line-monitor.conf")
    hear, reset = handbook.block(
        "gateway",
        {
            "broker.plant1.example": "localhost",
            "-p 8883": f"-p {port}",
            "--cafile ca.crt": "--cafile /etc/mosquitto/certs/ca.crt",
        },
    ).splitlines()
    try:
        said = installed.do(f"sleep 1\n({hear} -C 1 -W 10) & sleep 2\n{reset}\nwait $!")
    finally:
        machine.run("systemctl", "stop", "broker", check=False)
    assert said.strip() == "plant1/line1/reset {}"


def test_a_camera_is_added_as_written(installed: Service) -> None:
    machine = installed.machine
    parts_folder.write_parts(machine.path("/var/lib/line-monitor/more"), 30, bad_every=0)
    settings = machine.path("/etc/line-monitor/line.toml")
    before = settings.read_text()
    settings.write_text(
        f'{before}\n[[camera]]\nname = "side"\nrecipe = "bottle-side"\ndeadline_ms = 1000\n'
        'source = "folder:///var/lib/line-monitor/more?fps=20&loop=1"\n'
    )
    machine.run("chown", "-R", "line-monitor:", "/var/lib/line-monitor")
    since = time.monotonic()
    said = installed.do(
        handbook.block(
            "camera", {"--count 500": "--count 30", "--overkill 0.01": "--overkill 0.01 --epochs 2 --size 64"}
        )
    )
    assert "FAIL" not in said, said
    wait_for(lambda: installed.ready_since(since), 60, "line with two cameras")
    assert set(installed.witness.status()["cameras"]) == {"top", "side"}
    settings.write_text(before)
    machine.run("systemctl", "restart", UNIT)


def test_a_backup_can_be_restored_as_written(installed: Service) -> None:
    machine = installed.machine
    wait_for(lambda: machine.path("/var/lib/line-monitor/journal.sqlite").exists(), 30, "journal")
    installed.do("rm -rf /var/backups/line-monitor")
    installed.do(handbook.block("backup", {}))
    recipe = machine.path("/var/lib/line-monitor/recipes/plate/recipe.json")
    kept = recipe.read_bytes()
    shutil.rmtree(recipe.parent)
    machine.path("/etc/line-monitor/line.toml").write_text("broken")
    since = time.monotonic()
    installed.do(handbook.block("restore", {}))
    assert recipe.read_bytes() == kept
    wait_for(lambda: installed.ready_since(since), 60, "restored line")
    assert (
        machine.run(
            "runuser", "-u", "line-monitor", "--", "touch", "/var/lib/line-monitor/recipes/x"
        ).returncode
        == 0
    )


def test_the_program_is_brought_up_to_date_as_written(installed: Service, tmp_path: Path) -> None:
    newer = bundle.later(installed.carried, tmp_path / "newer", "9.9.9")
    session, since = installed.witness.status()["session"], time.monotonic()
    said = installed.do(
        handbook.block(
            "update",
            {
                "install.sh": f"install.sh --packages {bundle.PACKAGES}",
                "line.toml.new": "line.toml.new || test $? = 1",
            },
        ),
        newer,
    )
    assert "line-monitor runs again" in said
    assert "> # A setting that this version brings." in said
    wait_for(lambda: installed.ready_since(since), 60, "line of the new version")
    assert installed.witness.status()["session"] != session
