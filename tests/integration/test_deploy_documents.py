"""The documents for the engineer are correct: every command of the handbook runs, and every metric exists."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitor.commands.check import findings
from monitor.line_state.board import Board
from monitor.line_state.ring import Ring
from monitor.line_state.worker_process import worker_names
from monitor.service.prometheus import Metrics
from monitor.settings import Settings, load_settings
from tests.real import bundle, handbook, parts_folder
from tests.real.port import free_port
from tests.real.service import PACKAGES, UNIT, Service, wait_for

pytestmark = pytest.mark.timeout(400)
DEPLOY = bundle.ROOT / "deploy"
RUN_HERE = {
    "log",
    "camera",
    "update",
    "backup",
    "restore",
    "broker",
    "gateway",
    "metrics",
    "journal",
    "record",
}
RUN_ELSEWHERE = {"bundle", "stage", "install", "secrets", "start", "remove"}
"""The blocks of the handbook that `test_install`, `test_systemd` and their helpers run."""
LABELS = {"camera", "verdict", "reason", "stage", "worker", "instance", "job", "le"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool here: apt-get install prometheus brings it"
)
HEALTHY = {
    'up{job="line-monitor"}': "1x60",
    "line_monitor_ready": "1x60",
    "line_monitor_journal_ok": "1x60",
    "line_monitor_disk_free_bytes": "50000000000x60",
    'line_monitor_camera_up{camera="top"}': "1x60",
    'line_monitor_drift{camera="top"}': "0x60",
    'line_monitor_frames_total{camera="top"}': "0+300x60",
    'line_monitor_verdicts_total{camera="top",verdict="uninspected",reason="deadline"}': "0x60",
    'line_monitor_verdicts_total{camera="top",verdict="uninspected",reason="superseded"}': "0x60",
    'line_monitor_deadline_misses_total{camera="top"}': "0x60",
    'line_monitor_rejects_missed_total{camera="top"}': "0x60",
    'line_monitor_worker_restarts_total{worker="scoring"}': "0x60",
}
"""Each series of a line without problems, one sample a minute, in promtool's notation."""


def alerts() -> set[str]:
    return set(re.findall(r"- alert: (\w+)", (DEPLOY / "prometheus-alerts.yml").read_text()))


def alert_expressions() -> str:
    found = re.findall(
        r"expr: (?:>-\n)?((?:.|\n)*?)\n        (?:for|labels):",
        (DEPLOY / "prometheus-alerts.yml").read_text(),
    )
    assert len(found) == len(alerts())
    return " ".join(found)


def panels() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def exported(tmp_path: Path, ring: Ring) -> Iterator[dict[str, str]]:
    """Every metric that Prometheus receives, by name, with its type."""
    port = free_port()
    settings = Settings(
        line={"data": tmp_path},  # type: ignore[arg-type]
        camera=({"name": "top", "source": "simulated://plate", "recipe": "plate"},),  # type: ignore[arg-type]
        metrics={"port": port},  # type: ignore[arg-type]
    )
    Board.create(tmp_path / "board", worker_names(settings))
    board = Board(tmp_path / "board", worker_names(settings))
    metrics = Metrics(settings, {"top": ring}, board, logging.getLogger("metrics"))
    metrics.step()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    yield dict(re.findall(r"^# TYPE (line_monitor_\w+) (\w+)$", text, re.M))
    metrics.close()
    board.close()


def test_every_block_of_commands_is_one_that_a_test_runs() -> None:
    assert None not in handbook.names()
    assert sorted(map(str, handbook.names())) == sorted(RUN_HERE | RUN_ELSEWHERE)


def test_the_handbooks_settings_are_ones_that_the_line_takes(tmp_path: Path) -> None:
    config = tmp_path / "line.toml"
    config.write_text("\n".join(handbook.written_in("toml")))
    settings = load_settings(config)
    assert settings.prefix == "plant1/line1"
    assert [camera.name for camera in settings.camera] == ["top", "side"]
    assert settings.mqtt.port == 8883


@pytest.mark.gige
def test_every_item_that_check_speaks_of_is_explained(write_config: Callable[..., Path]) -> None:
    config = write_config(
        '[[camera]]\nname = "top"\nrecipe = "plate"\nsource = "simulated://plate"\n'
        '[[camera]]\nname = "gone"\nrecipe = "none"\nsource = "gige://127.0.0.1"\n'
    )
    said = {finding.item.split()[0] for finding in findings(config)}
    assert {"settings", "device", "recipe", "camera", "broker", "disk", "clock"} <= said
    assert said - handbook.items() == set()


def test_each_directive_of_the_unit_that_confines_is_said_to_be_shown_or_not() -> None:
    unit = (DEPLOY / UNIT).read_text()
    _, _, confining = unit.partition("# Devices: the GPU's only.")
    directives = set(re.findall(r"^(\w+)=", confining, re.M)) - {"WantedBy"}
    assert len(directives) > 20
    # These names belong to other programs: bits of a set, and the form of a refusal.
    directives -= {"AmbientCapabilities", "SystemCallErrorNumber"}
    assert {name for name in directives if f"`{name}`" not in handbook.section("The service")} == set()


def test_dashboard_and_alerts_name_only_metrics_that_the_line_exports(exported: dict[str, str]) -> None:
    samples = {
        f"{name}{end}"
        for name, kind in exported.items()
        for end in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }
    for expressions in (" ".join(panels()), alert_expressions()):
        named = set(re.findall(r"\bline_monitor_\w+", expressions))
        assert len(named) >= 8
        assert named - samples == set()
        labels = set(re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"", expressions))
        for group in re.findall(r"\bby \(([^)]*)\)", expressions):
            labels |= {label.strip() for label in group.split(",")}
        assert labels - LABELS == set()


def test_the_dashboard_shows_every_metric_of_the_line(exported: dict[str, str]) -> None:
    shown = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\bline_monitor_\w+", " ".join(panels()))}
    assert {name for name in exported if not name.endswith("_created")} - shown == set()


@needs_promtool
def test_promtool_takes_the_alerts_and_every_panel_of_the_dashboard(tmp_path: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", DEPLOY / "prometheus-alerts.yml").stdout
    rules = [
        {"record": f"panel_{number}", "expr": expression.replace("$instance", ".*")}
        for number, expression in enumerate(panels())
    ]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    said = promtool("check", "rules", tmp_path / "panels.yml")
    assert f"SUCCESS: {len(rules)} rules found" in said.stdout, said.stderr
    (config,) = handbook.written_in("yaml")
    (tmp_path / "prometheus.yml").write_text(config)
    shutil.copy(DEPLOY / "prometheus-alerts.yml", tmp_path)
    said = promtool("check", "config", tmp_path / "prometheus.yml")
    assert said.returncode == 0, said.stderr


@needs_promtool
def test_each_alert_comes_when_it_should_and_none_on_a_line_that_is_well(tmp_path: Path) -> None:
    sick = {
        "LineMonitorGone": ("up{job", "1x5 0x55"),
        "LineNotReady": ("line_monitor_ready", "1x5 0x55"),
        "CameraDown": ("line_monitor_camera_up", "1x5 0x55"),
        "RejectMissed": ("line_monitor_rejects_missed_total", "0x17 1x43"),
        "DeadlinesMissed": ("line_monitor_deadline_misses_total", "0+1x60"),
        "PartsUninspected": ('reason="deadline"', "0+5x60"),
        "Drift": ("line_monitor_drift", "0x5 -1x55"),
        "WorkerKeepsDying": ("line_monitor_worker_restarts_total", "0+1x60"),
        "DiskNearlyFull": ("line_monitor_disk_free_bytes", "9000000000x60"),
        "JournalNotWritten": ("line_monitor_journal_ok", "1x5 0x55"),
    }
    assert set(sick) == alerts()
    # A worker's restart, a changeover and a late live view raise no alert.
    ordinary = {
        "line_monitor_ready": "1x18 0x0 1x41",
        "line_monitor_camera_up": "1x18 0x0 1x41",
        "line_monitor_worker_restarts_total": "0x18 1x42",
        'reason="superseded"': "0+100x60",
    }
    cases: list[tuple[dict[str, str], list[dict[str, object]]]] = [({}, []), (ordinary, [])]
    for alert, (series, values) in sick.items():
        cases.append(({series: values}, [{"labels": f'{{alertname="{alert}"}}', "value": 1}]))
    tests = []
    for changed, expected in cases:
        series = {
            name: next((values for part, values in changed.items() if part in name), as_it_is)
            for name, as_it_is in HEALTHY.items()
        }
        assert series != HEALTHY or not changed
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": "20m",
                        "exp_samples": expected,
                    }
                ],
            }
        )
    file = tmp_path / "alerts-test.yml"
    file.write_text(
        json.dumps(
            {
                "rule_files": [str(DEPLOY / "prometheus-alerts.yml")],
                "evaluation_interval": "1m",
                "tests": tests,
            }
        )
    )
    said = promtool("test", "rules", file)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.slow
def test_the_log_is_read_as_written(installed: Service) -> None:
    warnings, follow = handbook.block("log", {}).splitlines()
    installed.do(warnings)
    said = installed.do(f"timeout 2 {follow} || test $? = 124")
    assert "supervisor: session" in said or "publish: line is" in said or "scoring" in said


@pytest.mark.slow
def test_metrics_are_there_to_be_scraped(installed: Service) -> None:
    fetch, rules = handbook.block("metrics", {"9108": installed.metrics_port}).splitlines()
    assert shutil.which("curl"), "curl is missing: apt-get install curl (deploy/test.sh does)"
    assert "line_monitor_ready 1.0" in installed.do(fetch)
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here: apt-get install prometheus brings it")
    assert "SUCCESS" in installed.do(rules)


@pytest.mark.slow
def test_the_review_pages_password_came_as_a_credential(installed: Service) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{installed.review_port}/", timeout=10)
    assert refused.value.code == 401


@pytest.mark.slow
def test_the_journal_is_read_as_written(installed: Service, tmp_path: Path) -> None:
    wait_for(lambda: bool(installed.witness.heard("top/reject", 0)), 30, "reject")
    commands = handbook.block("journal", {"--camera side": "--camera top", "/tmp/side.csv": tmp_path / "csv"})
    wait_for(lambda: "top" in installed.do(commands), 10, "reject in the journal")
    header, *rows = (tmp_path / "csv").read_text().splitlines()
    assert "event_id" in header
    assert rows
    record = installed.do(handbook.block("record", {}))
    assert "setting" in record
    assert "the record is whole" in record


@pytest.mark.slow
def test_a_broker_is_made_and_talked_to_as_written(installed: Service) -> None:
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


@pytest.mark.slow
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
    smaller = {"--count 500": "--count 30", "--overkill 0.01": "--overkill 0.01 --epochs 2 --size 64"}
    said = installed.do(handbook.block("camera", smaller))
    assert "FAIL" not in said, said
    wait_for(lambda: installed.ready_since(since), 60, "line with two cameras")
    assert set(installed.witness.status()["cameras"]) == {"top", "side"}
    settings.write_text(before)
    machine.run("systemctl", "restart", UNIT)


@pytest.mark.slow
def test_a_backup_can_be_made_again_and_restored_as_written(installed: Service) -> None:
    machine = installed.machine
    data = machine.path("/var/lib/line-monitor")
    wait_for((data / "journal.sqlite").exists, 30, "journal")
    for _ in range(2):
        installed.do(handbook.block("backup", {}))
    copy = machine.path("/var/backups/line-monitor/journal.sqlite")
    with sqlite3.connect(copy) as journal:
        (kept_rows,) = journal.execute("SELECT count(*) FROM verdicts").fetchone()
    recipe = data / "recipes/plate/recipe.json"
    kept = recipe.read_bytes()
    shutil.rmtree(recipe.parent)
    machine.path("/etc/line-monitor/line.toml").write_text("broken")
    machine.path("/etc/line-monitor/mqtt_password").unlink()
    since = time.monotonic()
    installed.do(handbook.block("restore", {}))
    assert recipe.read_bytes() == kept
    wait_for(lambda: installed.ready_since(since), 60, "restored line")
    with sqlite3.connect(f"file:{data}/journal.sqlite?mode=ro", uri=True) as journal:
        assert journal.execute("SELECT count(*) FROM verdicts").fetchone()[0] >= kept_rows > 0
    assert {path.stat().st_uid for path in data.rglob("*")} == {data.stat().st_uid}


@pytest.mark.slow
def test_the_program_is_brought_up_to_date_as_written(installed: Service, tmp_path: Path) -> None:
    newer = bundle.later(installed.carried, tmp_path / "newer", "9.9.9")
    session, since = installed.witness.status()["session"], time.monotonic()
    here = {
        "install.sh": f"install.sh --packages {PACKAGES}",
        "line.toml.new": "line.toml.new || test $? = 1",
    }
    said = installed.do(handbook.block("update", here), newer)
    assert "line-monitor runs again" in said
    assert "> # A setting that this version brings." in said
    wait_for(lambda: installed.ready_since(since), 60, "line of the new version")
    assert installed.witness.status()["session"] != session
