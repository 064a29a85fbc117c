"""The command line answers `--help` without what takes seconds to import."""

from __future__ import annotations

import json
import subprocess
import sys

SLOW = {"torch", "torchvision", "openvino", "nncf", "onnx", "cv2"}
PROBE = """
import contextlib, io, json, re, sys
from monitor.cli import main

def help_of(*command):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return out.getvalue()

said = {"": help_of()}
for command in re.findall("^    ([a-z]+) ", said[""], re.MULTILINE):
    said[command] = help_of(command)
print(json.dumps([said, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def test_no_commands_help_loads_torch_or_its_like() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
    )
    said, modules = json.loads(done.stdout)
    assert {"demo", "train", "evaluate", "teacher", "bench", "run", "review"} < said.keys()
    for command, text in said.items():
        assert text.startswith(f"usage: line-monitor {command}".rstrip())
    assert "monitor" in modules
    assert SLOW & set(modules) == set()
