"""config/README.md shows every setting as the models define it."""

from __future__ import annotations

import pytest

from monitor.settings import Choice, Settings, tables, unit_and_bounds
from tests.settings_table import DOCUMENT, document

KEYS = [(table, key) for table, model in tables().items() for key in model.model_fields]


def test_the_document_is_the_one_that_the_models_give() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == document(text), "run: python -m tests.settings_table"


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_every_setting_has_a_title_a_description_and_its_unit_and_bounds(table: str, key: str) -> None:
    field = tables()[table].model_fields[key]
    assert field.title
    assert field.description
    assert field.description.endswith(".")
    is_choice = isinstance(field.annotation, type) and issubclass(field.annotation, Choice)
    assert is_choice or unit_and_bounds(field)
    if is_choice:
        assert all(choice.meaning for choice in field.annotation)


def test_every_table_has_a_title_and_a_description() -> None:
    assert all(field.title and field.description for field in Settings.model_fields.values())


def test_bounds_are_in_words() -> None:
    camera, snapshots = tables()["camera"].model_fields, tables()["snapshots"].model_fields
    assert unit_and_bounds(camera["deadline_ms"]) == "10 to 600000 ms"
    assert unit_and_bounds(camera["stop_reject_rate"]) == "at least 0, less than 1 (0.2 is 20 %)"
    assert unit_and_bounds(snapshots["max_gb"]) == "more than 0 GB"
