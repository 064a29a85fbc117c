"""The installed service under a real systemd: installed by the handbook, started, broken, stopped,
removed."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time

import pytest

from tests.real import bundle, confinement, handbook
from tests.real.service import PASSWORD, UNIT, Service, wait_for

# The limit is for making and installing the bundle on a busy machine. Each wait below has its own limit.
pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]


def test_it_is_up_when_its_recipes_are_warm_and_says_how_it_is(installed: Service) -> None:
    """The broker accepts it: the password comes as a credential from a file that only root may read."""
    assert installed.shows("ActiveState") == "active"
    wait_for(lambda: installed.shows("StatusText") == "ready; 1 of 1 cameras up", 10, "state in words")
    started = next(i for i, entry in enumerate(installed.journal()) if entry["MESSAGE"].startswith("Started"))
    early = [entry["MESSAGE"] for entry in installed.journal()[:started]]
    assert not any("camera top is up" in message for message in early), "cameras start later"


def test_it_runs_with_nothing_that_it_does_not_need(installed: Service) -> None:
    main = installed.shows("MainPID")
    status = installed.machine.run("cat", f"/proc/{main}/status").stdout
    rights = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(rights["CapEff"], 16) == int(rights["CapBnd"], 16) == 0
    assert rights["NoNewPrivs"] == "1"
    assert rights["Seccomp"] == "2"
    assert rights["Uid"].split()[0] != "0"
    inside = ("nsenter", "-t", main, "-m", "-S", rights["Uid"].split()[0])
    for place, allowed in (("/etc", False), ("/opt/line-monitor", False), ("/var/lib/line-monitor", True)):
        done = installed.machine.run(*inside, "touch", f"{place}/probe", check=False)
        assert (done.returncode == 0) is allowed, f"{place}: {done.stderr}"
    assert installed.machine.run(*inside, "ls", "/root", check=False).returncode != 0
    environment = installed.machine.run("cat", f"/proc/{main}/environ").stdout
    assert PASSWORD not in environment


def test_each_directive_that_can_be_tried_from_inside_holds_there_and_not_outside(installed: Service) -> None:
    machine = installed.machine
    program, folder = "/var/lib/line-monitor/confinement.py", "/var/lib/line-monitor"
    shutil.copy(confinement.__file__, machine.path(program))
    with tempfile.NamedTemporaryFile(dir="/tmp") as in_tmp:
        probe = f"/usr/bin/python3 -I {program} {folder} {in_tmp.name}"
        drop_in = machine.path(f"/etc/systemd/system/{UNIT}.d/probe.conf")
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text(f"[Service]\nExecStartPre=/bin/sh -c '{probe} >{folder}/kept'\n")
        since = time.monotonic()
        try:
            machine.run("systemctl", "daemon-reload")
            machine.run("systemctl", "restart", UNIT)
        finally:
            shutil.rmtree(drop_in.parent)
            machine.run("systemctl", "daemon-reload")
        outside = machine.run("runuser", "-u", "line-monitor", "--", *probe.split()).stdout
    inside = json.loads(machine.path(f"{folder}/kept").read_text())
    for name in ("kept", "confinement.py"):
        machine.path(f"{folder}/{name}").unlink()
    assert [directive for directive, holds in inside.items() if not holds] == []
    assert [directive for directive, holds in json.loads(outside).items() if holds] == []
    assert inside.keys() <= set(re.findall(r"^(\w+)=", (bundle.ROOT / "deploy" / UNIT).read_text(), re.M))
    wait_for(lambda: installed.ready_since(since), 60, "ready line")


def test_a_stuck_scorer_is_replaced_and_the_service_stays(installed: Service) -> None:
    main, scorer, since = installed.shows("MainPID"), installed.pid("scoring"), time.monotonic()
    installed.machine.run("kill", "-STOP", scorer)
    wait_for(
        lambda: not installed.ready_since(since) and bool(installed.witness.heard("status", since)),
        20,
        "loss",
    )
    wait_for(lambda: installed.ready_since(since), 60, "new scorer")
    assert installed.pid("scoring") != scorer
    assert installed.shows("MainPID") == main
    assert installed.shows("NRestarts") == "0"


def test_what_it_logs_has_levels_and_is_one_line_an_event(installed: Service) -> None:
    own = [entry for entry in installed.journal() if entry.get("_TRANSPORT") == "stdout"]
    assert not [entry for entry in own if entry["MESSAGE"].startswith("<")], "journald has taken the levels"
    levels = {"CRITICAL": "2", "ERROR": "3", "WARNING": "4", "INFO": "6"}
    assert own
    for entry in own:
        assert entry["PRIORITY"] == levels[entry["MESSAGE"].split()[0]], entry["MESSAGE"]
        assert "Traceback" not in entry["MESSAGE"]


def test_a_reload_changes_a_deadline_without_a_restart_and_names_what_needs_one(installed: Service) -> None:
    file = installed.machine.path("/etc/line-monitor/line.toml")
    before, main = file.read_text(), installed.shows("MainPID")
    changed = before.replace("deadline_ms = 1000", "deadline_ms = 900").replace(
        "[mqtt]", "[mqtt]\nkeepalive_s = 4"
    )
    try:
        file.write_text(changed)
        installed.machine.run("systemctl", "reload", UNIT)

        def is_said(words: str) -> bool:
            return any(words in entry["MESSAGE"] for entry in installed.journal())

        wait_for(lambda: is_said("camera top: deadline_ms 1000 -> 900"), 10, "new deadline")
        wait_for(lambda: is_said("mqtt.keepalive_s can't be changed while the line runs"), 10, "hint")
        wait_for(lambda: "restart to change mqtt.keepalive_s" in installed.shows("StatusText"), 10, "status")
    finally:
        file.write_text(before)
        installed.machine.run("systemctl", "reload", UNIT)
    wait_for(lambda: "restart to change" not in installed.shows("StatusText"), 10, "status without it")
    assert installed.shows("MainPID") == main


def test_a_stuck_supervisor_gets_the_service_restarted(installed: Service) -> None:
    main, scorer = installed.shows("MainPID"), installed.pid("scoring")
    session = installed.witness.status()["session"]
    restarts, since = int(installed.shows("NRestarts")), time.monotonic()
    installed.machine.run("kill", "-STOP", main)
    wait_for(lambda: int(installed.shows("NRestarts")) == restarts + 1, 30, "restart by the watchdog")
    wait_for(lambda: installed.witness.status()["session"] != session, 60, "new session")
    # A part may have been in flight when the workers were killed.
    installed.witness.say("reset")
    wait_for(lambda: installed.ready_since(since), 60, "line that is ready again")
    assert installed.shows("MainPID") != main
    assert installed.machine.run("ps", "-p", scorer, check=False).returncode != 0, "no old worker is left"
    assert any("Watchdog timeout" in entry["MESSAGE"] for entry in installed.journal())


def test_what_a_service_killed_as_a_whole_had_not_sent_is_missed_by_the_next(installed: Service) -> None:
    """Its rings outlive it, although systemd owns their folder."""
    session, since = installed.witness.status()["session"], time.monotonic()
    # A supervisor that can't act either: it would replace the stopped publisher within a second.
    installed.machine.run("kill", "-STOP", installed.shows("MainPID"), installed.pid("publish"))
    # There is a bad part each second at five frames a second: its reject is scored and not sent.
    time.sleep(2.5)
    installed.machine.run("kill", "-KILL", installed.shows("MainPID"))
    wait_for(lambda: installed.witness.status()["session"] != session, 60, "new session")
    wait_for(lambda: installed.witness.status()["reason"] == "missed_reject", 60, "latch")
    assert any("lost with the service: frames" in entry["MESSAGE"] for entry in installed.journal())
    installed.witness.say("reset")
    wait_for(lambda: installed.ready_since(since), 60, "line that is ready again")


def test_it_stops_in_order_and_is_removed_without_a_trace(installed: Service) -> None:
    machine, since = installed.machine, time.monotonic()
    machine.run("systemctl", "stop", UNIT)
    assert time.monotonic() - since < 8
    assert machine.shows(UNIT, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    wait_for(lambda: installed.witness.status()["state"] == "stopped", 5, "stopped status")
    assert machine.run("find", "/run/line-monitor").stdout.split() == ["/run/line-monitor"], "it is empty"
    remove, purge = handbook.block("remove", {}).splitlines()
    assert "kept: /var/lib/line-monitor" in installed.do(remove)
    assert machine.path("/var/lib/line-monitor/recipes/plate/recipe.json").exists()
    assert machine.path("/etc/line-monitor/line.toml").exists()
    assert machine.run("systemctl", "cat", UNIT, check=False).returncode != 0
    left = machine.run("find", "/opt", "/usr/local", "/etc/systemd", "/var/cache", "-name", "*line-monitor*")
    assert left.stdout == ""
    assert machine.run("ls", "/run/line-monitor", check=False).returncode != 0
    installed.do(purge)
    assert machine.run("getent", "passwd", "line-monitor", check=False).returncode != 0
    assert machine.run("find", "/etc/line-monitor", "/var/lib/line-monitor", check=False).stdout == ""
