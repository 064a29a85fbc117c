"""What the README and the handbook tell people to type exists: commands, arguments, options, programs.

Cheap, for every one of them; that the handbook's blocks also do what they say is tested where they are run.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Collection, Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path

import pytest

from monitor.cli import COMMANDS, build_parser

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = ("README.md", "deploy/README.md")
_OPTION = re.compile(r"--[a-z][a-z-]*")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
_BEFORE = re.compile(r"sudo|env|do|then|\w+=.*", re.S)
"""What may stand before a program."""


def test_what_the_documents_tell_people_to_type_exists() -> None:
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        assert len(list(typed(text))) > 3
        assert {line: why for line, why in complaints(text)} == {}, document


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Run `line-monitor calibrat`.", "calibrat"),
        ("Run `line-monitor evaluate\n--datset DIR`.", "--datset"),
        ("Set `--overkil 0.05`.", "--overkil"),
        ("Set `--image` DIR.", "--image"),
        ("`deploy/bundle.sh --own DIR`", "--own"),
        ("`deploy/bundel.sh DIR`", "bundel.sh"),
        ("`.venv/bin/python -m tests.benchmarks.accuracy --dataste DIR`", "--dataste"),
        ("`.venv/bin/python -m tests.benchmarks.no_such_thing`", "no_such_thing"),
        ("```sh\nline-monitor train bottle-top --images\n```\n", "expected one argument"),
        ("```sh\nline-monitor train --images good/\n```\n", "arguments are required"),
        ("```sh\nsudo -u me A=b line-monitor --config x chek | tee y\n```\n", "chek"),
        ("```sh\nfor d in *; do line-monitor train $d --images x --sead 1; done\n```\n", "--sead"),
    ],
)
def test_what_does_not_exist_is_found(text: str, why: str) -> None:
    ((_, complaint),) = complaints(text)
    assert why in complaint


def complaints(text: str) -> Iterator[tuple[str, str]]:
    """Each command line or option that does not exist, with the reason."""
    for words, whole in typed(text):
        line = " ".join(words)
        if why := _complaint(words, whole):
            yield line, why


def typed(text: str) -> Iterator[tuple[list[str], bool]]:
    """Every command line of ours, and every option that stands alone; and whether it is whole: what stands
    within a sentence may leave arguments out."""
    for block in _BLOCK.finditer(text):
        if block[1] == "sh":
            for words in _commands(block[2].replace("\\\n", " ")):
                yield words, True
    for span in re.findall(r"`([^`]+)`", _BLOCK.sub("", text)):
        words = span.split()
        if _is_ours(words[0]) or words[0].startswith("--"):
            yield words, False


def _commands(script: str) -> Iterator[list[str]]:
    """The command lines of ours in a script, each without what is put before it."""
    for line in script.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for token in [*lexer, ";"]:
            if set(token) - set("();<>|&"):
                words.append(token)
                continue
            while words and (_BEFORE.fullmatch(words[0]) or words[0] == "-u"):
                del words[: 2 if words[0] == "-u" else 1]
            if words and (_is_ours(words[0]) or words[0] == "bash"):
                yield words
            words = []


def _is_ours(program: str) -> bool:
    return program in ("line-monitor", ".venv/bin/python") or program.startswith("deploy/")


def _complaint(words: list[str], whole: bool) -> str:
    program, *arguments = words
    if program == "bash":
        program, *arguments = arguments
    if program == "line-monitor":
        return _of_the_program(arguments, whole)
    if program.startswith("--"):
        return _unknown(words, _every_option())
    if program == ".venv/bin/python":
        program = arguments[1].replace(".", "/") + ".py"
    file = ROOT / program
    if not file.exists():
        return f"there is no {program}"
    return _unknown(arguments, _OPTION.findall(file.read_text(encoding="utf-8"))) if file.is_file() else ""


def _of_the_program(arguments: list[str], whole: bool) -> str:
    told = _told(arguments) if whole else ""
    words = arguments[2:] if arguments[:1] == ["--config"] else arguments
    command = list(takewhile(lambda word: not word.startswith("-"), words))
    return told or _told([*command, "--help"]) or _unknown(arguments, _options(*command))


def _unknown(words: list[str], known: Collection[str]) -> str:
    missing = [word for word in words if _OPTION.fullmatch(word) and word not in known]
    return f"no option {', '.join(missing)}" if missing else ""


def _told(arguments: list[str]) -> str:
    """What the program's own parser says against it."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            build_parser(arguments).parse_args(arguments)
        except SystemExit as ended:
            return said.getvalue() if ended.code else ""
    return ""


def _options(*command: str) -> list[str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        build_parser(command).parse_args([*command, "--help"])
    return _OPTION.findall(said.getvalue())


@cache
def _every_option() -> frozenset[str]:
    """Of all that is ours, for one that is named without its program."""
    found = {option for command in COMMANDS for option in _options(command)}
    found |= {option for action in ("list", "fetch", "make") for option in _options("teacher", action)}
    for pattern in ("deploy/*.sh", "tests/benchmarks/*.py", "tests/faults/*.py"):
        for file in ROOT.glob(pattern):
            found |= set(_OPTION.findall(file.read_text(encoding="utf-8")))
    return frozenset(found)
