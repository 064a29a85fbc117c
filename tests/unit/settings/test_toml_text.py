"""A key's line is found in any settings file, also in one with values over several lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.settings.toml_text import TomlError, decode, find_line, parse

FILE = '''# a comment\u2028with a line break that is none in TOML
title = """
[mqtt]
port = 1
"""

[mqtt]
# port = 5
hosts = [
    "a",
    "b",
]
port = 1883

[[camera]]
name = "top"
[[camera]]

name = "side"
roi = [0, 0,
       5, 5]
mqtt.port = 2
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("mqtt",), 7),
        (("mqtt", "hosts"), 9),
        (("mqtt", "port"), 13),
        (("mqtt", "missing"), 7),
        (("camera", 0), 15),
        (("camera", 0, "name"), 16),
        (("camera", 1), 17),
        (("camera", 1, "name"), 19),
        (("camera", 1, "roi"), 20),
        (("camera", 1, "roi", 3), 20),
        (("camera", 1, "mqtt", "port"), 22),
        (("camera", 7), 15),
        (("snapshots", "max_gb"), 0),
    ],
)
def test_the_line_of_a_key_is_where_its_value_begins(path: tuple[str | int, ...], line: int) -> None:
    assert find_line(FILE, path) == line
    assert find_line(FILE.replace("\n", "\r\n"), path) == line


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["1", '"x"', "[1,\n2]", "'''\n[t0]\n'''"])), max_size=12
    )
)
def test_the_line_of_every_key_is_found(keys: list[tuple[int, str]]) -> None:
    lines: list[str] = []
    expected = {}
    for number, (gap, value) in enumerate(keys):
        lines += ["# comment"] * gap + ([f"[t{number}]"] if number % 3 == 0 else [])
        table = f"t{number - number % 3}"
        expected[table, f"k{number}"] = len(lines) + 1
        lines += f"k{number} = {value}".split("\n")
    text = "\n".join(lines)
    assert {path: find_line(text, path) for path in expected} == expected


@given(st.binary(max_size=60))
def test_any_bytes_are_a_table_or_refused(content: bytes) -> None:
    try:
        parse(decode(b"[line]\n" + content))
    except TomlError as error:
        refused = error
    else:
        return
    assert "\n" not in str(refused)
    assert 0 <= refused.line <= content.count(b"\n") + 3


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("name = line1", 'put text in quotes, as in name = "..."'),
        ("data = /var/lib # here", 'put text in quotes, as in data = "..."'),
        ("source = rtsp://a/b", 'put text in quotes, as in source = "..."'),
        ("host = 192.168.0.1", 'put text in quotes, as in host = "..."'),
        ("password = s3cret", 'put text in quotes, as in password = "..."'),
        ("deadline_ms = 2600 ms", "write a number alone, without its unit, and text in quotes"),
        ("rate = 3,5", "write a point in the number, as in 3.5"),
        ("number = 07", "write the number without leading zeros"),
        ("flag = True", "write true or false, in small letters"),
        ("port =", "write a value after port ="),
        (r'data = "C:\parts"', "put a text with backslashes in single quotes"),
        ("port: 5", "write KEY = VALUE"),
        ("roi = [1, 2", "correct that line"),
        ("[line", "correct that line"),
    ],
)
def test_a_line_that_toml_does_not_understand_comes_with_the_right_form(line: str, advice: str) -> None:
    with pytest.raises(TomlError) as refused:
        parse(line)
    assert advice in str(refused.value)
    assert "s3cret" not in str(refused.value)
