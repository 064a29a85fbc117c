"""The manifest of `fleet train`: what it becomes, and how its mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.fleet.fleet_error import FleetError
from monitor.fleet.manifest import (
    ManifestEntry,
    check_tables,
    explain_in_keys,
    read_manifest,
    train_arguments,
)

ONE = '[[recipe]]\nname = "top"\nimages = "good/top"\n'


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "recipes.toml"
    file.write_text(text)
    return file


def test_an_entry_becomes_the_arguments_of_train(tmp_path: Path) -> None:
    text = (
        ONE
        + 'size = "1024x512"\nepochs = 20\noverkill = 0.02\nseed = 3\nas_paper = true\ncpus = 4\ngpus = 1\n'
    )
    (entry,) = read_manifest(write(tmp_path, text))
    assert train_arguments(entry) == [
        "train",
        "top",
        "--device",
        "cuda",
        f"--images={tmp_path}/good/top",
        "--size=1024x512",
        "--epochs=20",
        "--overkill=0.02",
        "--seed=3",
        "--as-paper",
    ]


def test_what_an_entry_leaves_out_is_left_to_train() -> None:
    entry = ManifestEntry(name="top", images="/good")
    assert train_arguments(entry) == ["train", "top", "--device", "cpu", "--images=/good"]
    assert train_arguments(entry.model_copy(update={"int8": False}))[-1] == "--no-int8"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ONE + "epoch = 3\n", "line 4: recipe 'top': epoch: unknown key: did you mean 'epochs'?"),
        (ONE + 'epochs = "3"\n', "line 4: recipe 'top': epochs: must be a whole number"),
        (
            ONE + "overkill = 1.5\n",
            "line 4: recipe 'top': overkill: must be less than 1: use a share above 0",
        ),
        (ONE + 'size = "wide"\n', "line 4: recipe 'top': size: "),
        ('[[recipe]]\nname = "top"\n', "line 1: recipe 'top': images: the key is missing; add it"),
        ('[[recipe]]\nname = "Top"\nimages = "a"\n', "line 2: recipe 'Top': name: this text is not allowed"),
        (ONE + ONE, "recipe 'top': name: given more than once"),
        ("[recipe]\nname = 1\n", "[recipe] in single brackets: write [[recipe]]"),
        ("[[recipes]]\n", "line 1: recipes: unknown table"),
        ("", "no recipe in it"),
        ("[[recipe]]\nname = top\n", "line 2: not valid TOML"),
    ],
)
def test_a_mistake_is_one_line_with_table_key_and_fix(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(FleetError) as raised:
        read_manifest(write(tmp_path, text))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_row_of_parquet_is_named_by_its_number() -> None:
    rows = [{"name": "top", "images": "/good"}, {"name": "side", "images": "/good", "seed": -1}]
    with pytest.raises(FleetError, match=r"recipes\.parquet row 2: recipe 'side': seed: must be greater"):
        check_tables(rows, Path("recipes.parquet"))


def test_a_message_about_options_names_keys() -> None:
    assert explain_in_keys("--as-paper has a student alone: leave --compare out") == (
        "as_paper has a student alone: leave compare out"
    )
