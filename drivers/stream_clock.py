"""Calculates when a stream's image reached this machine, without the time that it waited in a buffer.

It knows nothing of cameras, only of two clocks. The wait of an image is the wait of the one before, plus the
time since that one arrived, less the time between their exposures. The stamps say the latter, at a rate that
`StampRate` learns from spans without a stall. Each stamp is measured from the last one that made sense, so
that the scatter of stamps and arrivals does not add up. Where a stamp makes no sense (the clock was set, the
stamp is missing or the same again) the usual time between images stands in for it: an image that arrives
when it is expected has waited no longer than the one before, whatever its stamp says.

A clock that is 0.3 % slow and a backlog that grows by 3 ms a second give the same stamps and the same
arrivals. The rate is therefore learnt only from images before which the network was at rest
(`stream_socket.py`), since a network that is too slow for the stream never rests; without rest, clocks that
differ by 0.05 % are allowed for. And a clock's rate is constant: what was learnt first holds, and a growth
that begins later is a backlog.

Limits. The camera's RTCP reports would tell more, but OpenCV does not hand them out. So a delay that grows
from the first 2 s on (12 images of a slow camera), although the network rests, as in a relay that plays too
slowly, is taken for a slow clock. Later growth is noticed unless it is slower than the limits of the rate,
which are 0.03 % wide after some minutes. Where stamps or arrivals scatter by a tenth of the usual time
between images, the limits stay wide for half a minute. Images of a backlog that begins to grow by 3 to 10 ms
a second in this half minute are dated up to 0.3 s too new; those of a later backlog seldom are. A delay that
a connection has from its first image on is not seen, nor is a stall whose images the camera then stamps anew.

The calculated time must never be later than the arrival.
"""

from __future__ import annotations

from collections import deque

from drivers.intervals import Intervals
from drivers.stamp_judge import StampJudge
from drivers.stamp_order import StampOrder
from drivers.stamp_rate import StampRate

LATE_NS = 100_000_000
"""An image that has waited longer is old: nothing is learnt from it, and images that stay old are a fault."""
_PATIENCE_NS = 5_000_000_000
_FRESH_NS = 50_000_000
_BOUND = 0.25
_GAP_DELAY_NS, _GAP_DRIFT = 20_000_000, 0.06
"""A delay that stays after a gap by more than this, and this share of the gap, was caused by the gap."""
_UNPROVED_BOUND = 5e-4
"""Clocks of cameras differ by less than this from this machine's, unless something is wrong with them."""
_MOST_LENIENT_NS = 400_000_000
"""How much lateness is put down to a rate that is not known yet."""
_MS = 1_000_000


class Lateness:
    """How long images have been late without a break."""

    def __init__(self) -> None:
        self._since_ns: int | None = None

    def note(self, lag_ns: int, arrival_ns: int) -> None:
        if lag_ns < LATE_NS:
            self._since_ns = None
        elif self._since_ns is None:
            self._since_ns = arrival_ns

    def stuck(self, arrival_ns: int) -> bool:
        """Whether images have been late for 5 s, which is too long for a backlog that shrinks."""
        return self._since_ns is not None and arrival_ns - self._since_ns > _PATIENCE_NS


class StreamClock:
    """Calculates the times of images from their arrivals and their stamps, in nanoseconds of two clocks.

    `window_s` is the span from which the stamps' rate is learnt. `undated` is why the stamps can't be used at
    present, as the end of a sentence about the camera; None while they can.
    """

    def __init__(self, window_s: float) -> None:
        self._rate = StampRate(window_s)
        self._order = StampOrder()
        self._judge = StampJudge()
        self._lateness = Lateness()
        self._between = Intervals()
        self._advance = Intervals()
        self._arrival_ns: int | None = None
        self._arrivals: deque[int] = deque(maxlen=16)
        """The latest arrivals, for the average time between images."""
        self._latest_ns: int | None = None
        """The latest stamp."""
        self._missing_ns = 0
        """The time that stood in for missing stamps since the latest stamp."""
        self._trusted_ns: int | None = None
        """The latest stamp that made sense."""
        self._replaced_ns = 0
        """The time that stood in for other stamps since then."""
        self._gap: tuple[int, int] | None = None
        """Arrival and offset before a gap that the stamps did not explain."""
        self._offset_ns = self._lag_ns = 0
        self._unsettled_ns = 0
        """The time between exposures that was taken by stamps of a rate that is not known yet."""
        self._lenient_ns = 0
        self.undated: str | None = None

    @property
    def usual_ns(self) -> int | None:
        """The usual time between images; None while it is not known."""
        return self._between.usual_ns

    def captured(
        self, stamp_ns: int | None, arrival_ns: int, waited: bool = True, rested: bool = True
    ) -> int:
        """The image's time on the clock of `arrival_ns`.

        `waited` is whether its reader had to wait for it: if not, it lay in this machine's buffer. `rested`
        is whether the network was seen at rest since the image before: only then nothing was held back there.
        """
        last_ns, self._arrival_ns = self._arrival_ns, arrival_ns
        self._arrivals.append(arrival_ns)
        since_latest, advance = self._take_stamp(stamp_ns)
        if last_ns is None:
            self._trusted_ns = self._latest_ns
            return arrival_ns
        between = arrival_ns - last_ns
        usual = between if self._between.usual_ns is None else self._between.usual_ns
        steady = waited and 2 * abs(between - usual) <= usual
        # Then nothing was held here or on the way, so that a lateness near the limit may be scatter.
        calm = steady and rested and self._lag_ns < 2 * LATE_NS
        told = advance is not None and self._makes_sense(advance, between, calm)
        stepped = not told and since_latest is not None and self._makes_sense(since_latest, between, calm)
        if stepped:
            advance, told = since_latest, True
        before_ns = self._lag_ns
        self._follow(between, advance if told else None, usual, steady, rested)
        if stepped and steady and (calm or before_ns < LATE_NS):
            # The images came on time before and after, so that the scatter of the stamps must not add up.
            self._lag_ns = min(self._lag_ns, before_ns)
        self._trust(told, usual)
        fresh = self._lag_ns <= _FRESH_NS
        learning = steady and not self._rate.is_known
        if fresh and told and waited and rested:
            self._unsettled_ns = 0
        if waited and (self._lag_ns < LATE_NS or calm or learning) and told and rested:
            self._learn_rate()
        if waited and ((fresh and before_ns <= _FRESH_NS) or learning):
            self._between.add(between)
            if since_latest is not None and since_latest > 0:
                self._advance.add(since_latest)
        self.undated = self._judge.judge(advance if told else since_latest, told, between, steady)
        self._lateness.note(self._lag_ns, arrival_ns)
        return arrival_ns - self._lag_ns

    def lag_s(self) -> float:
        """The wait of the latest image in seconds."""
        return self._lag_ns / 1e9

    def stuck(self, arrival_ns: int) -> bool:
        """Whether images have been late for 5 s. Either the network or the camera delays them all, or the
        rate of the stamps has changed. A new connection corrects each of these."""
        return self.undated is None and self._lateness.stuck(arrival_ns)

    def _take_stamp(self, stamp_ns: int | None) -> tuple[int | None, int | None]:
        """How far the stamp is from the latest one, and from the trusted one, each less the time of the
        images between; None without a stamp."""
        if stamp_ns is None:
            self._missing_ns += self._between.usual_ns or 0
            return None, None
        stamp_ns = self._order.arrange(stamp_ns)
        latest_ns, self._latest_ns = self._latest_ns, stamp_ns
        missing_ns, self._missing_ns = self._missing_ns, 0
        if latest_ns is None or self._trusted_ns is None:
            return None, None
        return stamp_ns - latest_ns - missing_ns, stamp_ns - self._trusted_ns - self._replaced_ns

    def _trust(self, told: bool, usual: int) -> None:
        """Later stamps are measured from the latest one that made sense, so that the error of one that did
        not is no error of the next."""
        if told or self._trusted_ns is None:
            self._trusted_ns, self._replaced_ns = self._latest_ns, 0
        else:
            self._replaced_ns += round(usual / (1 + self._rate.rate))

    def _makes_sense(self, advance: int, between: int, calm: bool) -> bool:
        """Whether the stamp's advance can be the time between two exposures."""
        usual = self._advance.usual_ns
        if advance <= 0:
            return False
        if usual is None:
            return True
        scatter = min(max(2 * _MS, 4 * self._advance.scatter_ns), usual * 9 // 10)
        tolerance = max(scatter, min(usual // 10, 10 * _MS))
        expected = self._between.usual_ns or between
        near = max(5 * _MS, min(expected // 4, 30 * _MS))
        late = between - round(advance * (1 + self._rate.rate))
        if abs(late) <= min(near, advance // 2):
            return True
        average = (self._arrivals[-1] - self._arrivals[0]) // (len(self._arrivals) - 1)
        if not any(arrivals // 2 <= usual <= 2 * arrivals for arrivals in (expected, average)):
            return False
        if abs(advance - usual) <= tolerance:
            return True
        after = self._lag_ns + late
        # Scatter of stamps or arrivals: it cancels out, since the next stamp is measured from this one.
        if (calm or self._lag_ns < LATE_NS) and -_FRESH_NS <= after < LATE_NS:
            return True
        # The camera left out images. Then the wait became shorter, at most by all of it.
        missing = round(advance / usual)
        left_out = missing >= 2 and abs(advance - missing * usual) <= scatter
        return abs(after) <= near or (left_out and after >= -near)

    def _follow(self, between: int, advance: int | None, usual: int, steady: bool, rested: bool) -> None:
        """Bring the wait forward by one image."""
        rate = self._rate.rate
        exposed = usual if advance is None else round(advance * (1 + rate))
        lag = self._lag_ns + between - exposed
        self._offset_ns += between - (round(usual / (1 + rate)) if advance is None else advance)
        if steady and not rested and lag <= LATE_NS:
            lag -= round(_UNPROVED_BOUND * exposed)
        elif not self._rate.is_known:
            if steady and lag <= LATE_NS and self._lenient_ns < _MOST_LENIENT_NS:
                # An image that arrives when it is expected is fresh, as far as the rate can be the reason.
                leniency = min(max(0, lag), round(_BOUND * exposed))
                self._lenient_ns += leniency
                lag -= leniency
            else:
                self._unsettled_ns += exposed
                if between - exposed > usual and self._gap is None and self._arrival_ns is not None:
                    self._gap = self._arrival_ns - between, self._offset_ns - between + exposed
        self._lag_ns = max(0, lag)

    def _learn_rate(self) -> None:
        was_known = self._rate.is_known
        assert self._arrival_ns is not None
        if self._gap is not None:
            # A delay that stays after a gap is no drift.
            since_ns, delay_ns = self._arrival_ns - self._gap[0], self._offset_ns - self._gap[1]
            if delay_ns > _GAP_DELAY_NS + since_ns * _GAP_DRIFT:
                self._rate.forget_offsets()
            self._gap = None
        above = self._rate.add(self._arrival_ns - self._offset_ns, self._offset_ns, _BOUND)
        if self._rate.is_known and not was_known:
            self._lag_ns = max(0, self._lag_ns - round(self._rate.rate * self._unsettled_ns))
        if above is not None and self._lag_ns < LATE_NS:
            self._lag_ns = above
