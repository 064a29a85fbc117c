"""Everything that the documents name exists: commands, arguments, options, programs, links, modules.

Nothing is run here. Other tests run the commands of the handbook.
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
DOCUMENTS = (
    "README.md",
    "deploy/README.md",
    "tests/benchmarks/README.md",
    "tests/faults/README.md",
    ".github/CONTRIBUTING.md",
    "deploy/mqtt.md",
    "monitor/README.md",
    "config/README.md",
)
FEW_COMMANDS = ("deploy/mqtt.md", "monitor/README.md", "config/README.md")
"""Documents that may have no commands."""
MOST_BYTES_OF_README = 6144
_OPTION = re.compile(r"--[a-z][a-z-]*")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
_BEFORE = re.compile(r"sudo|env|do|then|\w+=.*", re.S)
"""Words that may come before a program on a command line."""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_the_documents_tell_people_to_type_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert len(list(typed(text))) > 3 or document in FEW_COMMANDS
    assert {line: why for line, why in complaints(text)} == {}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_of_a_document_leads_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert len(list(links(text))) > 0
    assert broken_links(ROOT / document) == {}


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text(
        "# One\n\n## `P/top/ack` and more: 8-bit\n\n## One\n\n```\n# no heading\n```\n"
    )
    document = tmp_path / "document.md"
    document.write_text(
        "# Here\n[a](other.md) [b](other.md#ptopack-and-more-8-bit) [c](#here) [d](https://example.org/x.md)\n"
        "[e](other.md#one-1) ![f](gone.svg) [g](other.md#two) [h](#there) [i](other.md#no-heading)\n"
        "```\n[j](in-a-block.md)\n```\n`[k](in-a-span.md)`\n"
    )
    assert broken_links(document) == {
        "gone.svg": "no such file",
        "other.md#two": "no such heading",
        "#there": "no such heading",
        "other.md#no-heading": "no such heading",
    }


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= MOST_BYTES_OF_README


def test_the_map_names_every_module_in_its_room() -> None:
    named, there = dict(modules_on_the_map()), dict(modules_in_the_tree())
    unknown = {room: names - there.get(room, set()) for room, names in named.items()}
    missing = {room: names - named.get(room, set()) for room, names in there.items()}
    assert {room: names for room, names in unknown.items() if names} == {}, "on the map, not in the tree"
    assert {room: names for room, names in missing.items() if names} == {}, "in the tree, not on the map"


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


def links(text: str) -> Iterator[str]:
    """Every link and picture of a document, except for web addresses."""
    prose = re.sub(r"`[^`]*`", "", _BLOCK.sub("", text))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"\w+://", target):
            yield target


def broken_links(document: Path) -> dict[str, str]:
    """Each link of a document that leads nowhere, with the reason."""
    found = {}
    for target in links(document.read_text(encoding="utf-8")):
        place, _, anchor = target.partition("#")
        file = (document.parent / place) if place else document
        if not file.exists():
            found[target] = "no such file"
        elif anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
            found[target] = "no such heading"
    return found


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to a document's headings; a repeated heading gets a number."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*?) *$", _BLOCK.sub("", text), re.M):
        kept = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in "-_ ")
        anchor = kept.replace(" ", "-")
        number = 0
        while anchor in found:
            number += 1
            anchor = f"{kept.replace(' ', '-')}-{number}"
        found.add(anchor)
    return found


def modules_on_the_map() -> Iterator[tuple[str, set[str]]]:
    """Each room of `monitor/README.md` with the modules that the first column of its table names."""
    text = (ROOT / "monitor/README.md").read_text(encoding="utf-8")
    for section in text.split("\n### ")[1:]:
        room, _, rest = section.split("\n## ")[0].partition("\n")
        rows = re.findall(r"^\| ([^|]*)\|", rest, re.M)
        yield room.strip("/"), {name for row in rows for name in re.findall(r"`(\w+)\.py`", row)}


def modules_in_the_tree() -> Iterator[tuple[str, set[str]]]:
    """Each folder of modules, by its name on the map, with its modules."""
    for package in ("monitor", "drivers"):
        for folder in sorted({file.parent for file in (ROOT / package).rglob("*.py")}):
            modules = {file.stem for file in folder.glob("*.py")} - {"__init__", "__main__"}
            if modules:
                room = folder.relative_to(ROOT).as_posix()
                yield room.removeprefix("monitor/"), modules


def complaints(text: str) -> Iterator[tuple[str, str]]:
    """Each command line or option that does not exist, with the reason."""
    for words, whole in typed(text):
        line = " ".join(words)
        if why := _complaint(words, whole):
            yield line, why


def typed(text: str) -> Iterator[tuple[list[str], bool]]:
    """Every command line of this project and every single option, and whether it is complete: a command line
    in a sentence may omit arguments."""
    for block in _BLOCK.finditer(text):
        if block[1] == "sh":
            for words in _commands(block[2].replace("\\\n", " ")):
                yield words, True
    for span in re.findall(r"`([^`]+)`", _BLOCK.sub("", text)):
        words = span.split()
        if _is_ours(words[0]) or words[0].startswith("--"):
            yield words, False


def _commands(script: str) -> Iterator[list[str]]:
    """The command lines of this project in a script, without words such as `sudo` before them."""
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
    """The error message of the program's own parser; empty if there is none."""
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


_WITH_ACTIONS = [
    *(("teacher", action) for action in ("list", "fetch", "make")),
    *(("fleet", action) for action in ("train", "rescore", "compare", "status")),
]
"""Commands that have options of their own below another one."""


@cache
def _every_option() -> frozenset[str]:
    """The options of all commands and scripts, for an option that is named without its program."""
    found = {option for command in COMMANDS for option in _options(command)}
    found |= {option for command in _WITH_ACTIONS for option in _options(*command)}
    for pattern in ("deploy/*.sh", "tests/benchmarks/*.py", "tests/faults/*.py"):
        for file in ROOT.glob(pattern):
            found |= set(_OPTION.findall(file.read_text(encoding="utf-8")))
    return frozenset(found)
