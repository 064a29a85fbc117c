"""Which entries of the record of changes a person wants to see.

It knows nothing of HTTP: it reads a query's fields and writes them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from monitor.audit.entry import Entry, Kind
from monitor.review.entry_words import name_recipe

_LONGEST = 64


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """An empty text means any."""

    kind: str = ""
    recipe: str = ""
    who: str = ""
    """A part of the name, in capitals or not."""

    @staticmethod
    def parse(query: Mapping[str, str]) -> RecordFilter:
        """A kind that there is not counts as any."""
        kind = query.get("kind", "")
        return RecordFilter(
            kind if kind in tuple(Kind) else "",
            query.get("recipe", "").strip()[:_LONGEST],
            " ".join(query.get("who", "").split())[:_LONGEST],
        )

    def query(self) -> dict[str, str]:
        values = {"kind": self.kind, "recipe": self.recipe, "who": self.who}
        return {name: value for name, value in values.items() if value}

    def is_met(self, entry: Entry) -> bool:
        return (
            self.kind in ("", entry.kind)
            and self.who.lower() in entry.who.lower()
            and self.recipe in ("", name_recipe(entry))
        )
