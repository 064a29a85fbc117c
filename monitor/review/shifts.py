"""Local times: what a moment reads on the plant's clock, its day and its shift, and when a shift ends.

It knows nothing of parts. Everything is stored in UTC; people read and choose local times. All functions are
pure: the caller gives the moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from monitor.settings import ReviewSettings

WHOLE_DAY = ""
"""The name of the shift that is a whole calendar day."""


@dataclass(frozen=True, slots=True)
class Period:
    """The time from `start` up to `end`, both UTC."""

    start: datetime
    end: datetime
    start_order: tuple[str, str] = field(init=False)
    """The order of a snapshot (`Key.order`) that was captured when the period begins."""
    end_order: tuple[str, str] = field(init=False)

    def __post_init__(self) -> None:
        # Computed once: a filter compares every snapshot with them.
        object.__setattr__(self, "start_order", _order(self.start))
        object.__setattr__(self, "end_order", _order(self.end))

    @property
    def start_utc(self) -> str:
        """RFC 3339, as in the journal."""
        return f"{self.start:%Y-%m-%dT%H:%M:%S}.000Z"

    @property
    def end_utc(self) -> str:
        return f"{self.end:%Y-%m-%dT%H:%M:%S}.000Z"


class PlantClock:
    """The clock on the plant's wall: a time zone and the shifts."""

    def __init__(self, zone: str | None, shifts: Sequence[str]) -> None:
        """Without a zone, the zone of this machine. `shifts` are the times at which they begin."""
        self._zone = ZoneInfo(zone) if zone is not None else None
        self.shifts = tuple(shifts)
        self._starts = tuple(time.fromisoformat(start) for start in shifts)

    @staticmethod
    def of(settings: ReviewSettings) -> PlantClock:
        return PlantClock(settings.time_zone, settings.shifts)

    def local(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone)

    def parse(self, utc: str) -> datetime:
        """The local time of an RFC 3339 time. Raises ValueError."""
        return self.local(datetime.fromisoformat(utc))

    def show(self, utc: str) -> str:
        """An RFC 3339 time as `2026-11-24 06:00:00 CET`; a text that is no time stays as it is."""
        try:
            return f"{self.parse(utc):%Y-%m-%d %H:%M:%S %Z}"
        except ValueError:
            return utc

    def of_snapshot(self, day: str, stem: str) -> datetime:
        """The local time at which the part of a snapshot was captured, by the snapshot's name."""
        return self.local(datetime.strptime(f"{day} {stem[:6]}+0000", "%Y-%m-%d %H%M%S%z"))

    def day(self, moment: datetime) -> str:
        """The local calendar day as YYYY-MM-DD."""
        return f"{self.local(moment):%Y-%m-%d}"

    def shift(self, moment: datetime) -> tuple[str, str]:
        """The day and the start of the shift at that moment. The time before the first shift of a day belongs
        to the last shift of the day before."""
        local = self.local(moment)
        begun = [name for name, start in zip(self.shifts, self._starts, strict=True) if start <= local.time()]
        if begun:
            return f"{local:%Y-%m-%d}", begun[-1]
        return f"{local - timedelta(days=1):%Y-%m-%d}", self.shifts[-1]

    def shift_before(self, day: str, shift: str) -> tuple[str, str]:
        """The day and the start of the shift before."""
        return self.shift(self.period(day, shift).start - timedelta(minutes=1))

    def period(self, day: str, shift: str = WHOLE_DAY) -> Period:
        """The shift that begins at `shift` on that local day, or the whole day. Raises ValueError."""
        first = date.fromisoformat(day)
        if shift == WHOLE_DAY:
            return Period(self._utc(first, time()), self._utc(first + timedelta(days=1), time()))
        place = self.shifts.index(shift)
        is_last = place + 1 == len(self._starts)
        ends_on = first + timedelta(days=1) if is_last else first
        end = self._starts[0] if is_last else self._starts[place + 1]
        return Period(self._utc(first, self._starts[place]), self._utc(ends_on, end))

    def _utc(self, day: date, clock: time) -> datetime:
        local = datetime.combine(day, clock)
        # A time without a zone counts as this machine's.
        return (local.replace(tzinfo=self._zone) if self._zone else local).astimezone(UTC)


def _order(moment: datetime) -> tuple[str, str]:
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%d}", f"{utc:%H%M%S}{utc.microsecond // 1000:03d}"
