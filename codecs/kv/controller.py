"""Which level of each chunk to fetch so that a context is ready in time (CacheGen, section 5.3).

The paper's rule: of all levels that would still meet the target if every chunk left were fetched at that level and at
the bandwidth measured last, take the best; text counts as the best where recomputing it is fast enough. Two things are
added. A *reserve*: a choice must leave enough time for the rest to come at its fastest even if the bandwidth fell by
``drop_tolerance`` at the worst moment; where no choice leaves it, the fastest is taken. So the target holds under such
a fall whenever some fixed level would have held it. And a chunk under way is *abandoned* when the target would be
missed by waiting for it and another level of it is faster.

Everything here is arithmetic on times that the caller gives; no clock is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ...formats.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["TEXT", "Choice", "ChunkOffer", "Controller", "LevelOffer", "Rates"]

TEXT = "text"
# an abandoned chunk must come this much sooner another way: a measured bandwidth is never exact
_GAIN = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelOffer:
    """One level of a chunk: ``size_bytes`` to fetch, ``decoded_bytes`` that come of it."""

    label: str
    size_bytes: int
    decoded_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkOffer:
    """What can be had of one chunk: levels from the best to the smallest, and its text where it can be recomputed."""

    tokens: int
    levels: tuple[LevelOffer, ...]
    text_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What is known of the reader's speed.

    ``bandwidth`` in bytes per second, None while unknown; ``decode`` in decoded bytes per second for each level;
    ``prefill`` in tokens per second, None where text cannot be recomputed; ``latency`` in seconds per request.
    """

    bandwidth: float | None
    decode: Mapping[str, float]
    prefill: float | None = None
    latency: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One line of the log. ``option`` is a level's label or :data:`TEXT`; times are seconds since the start."""

    chunk: int
    option: str
    kind: Literal["choose", "switch"]
    reason: str
    size_bytes: int
    elapsed: float
    bandwidth: float | None
    expected_finish: float

    def __str__(self) -> str:
        rate = "unknown" if self.bandwidth is None else f"{self.bandwidth / 1e6:.3g} MB/s"
        return (
            f"{self.elapsed:7.3f} s  chunk {self.chunk}: {self.kind} {self.option} ({self.size_bytes:,} bytes) "
            f"at {rate}, ready by {self.expected_finish:.3f} s: {self.reason}"
        )


class Controller:
    """Chooses for one context; ``log`` holds every choice.

    Args:
        chunks: the offers, in order; every chunk must offer the same labels in the same order.
        target_seconds: when the whole context shall be ready, counted from the start.
        drop_tolerance: the fall of bandwidth to be ready for; 1 is the paper's rule alone.
        text_first: text is the best choice wherever it is in time, as in the paper; otherwise the last resort.
        detection_seconds: how long a fall may go unnoticed.
    """

    def __init__(
        self,
        chunks: Sequence[ChunkOffer],
        *,
        target_seconds: float,
        drop_tolerance: float = 10.0,
        text_first: bool = True,
        detection_seconds: float = 0.25,
    ) -> None:
        if target_seconds <= 0 or drop_tolerance < 1:
            raise InvalidParameter("the delay target must be positive and drop_tolerance at least 1")
        labels = {tuple(level.label for level in chunk.levels) for chunk in chunks}
        if len(labels) != 1 or labels == {()} or TEXT in next(iter(labels)):
            raise InvalidParameter("every chunk must offer the same levels, at least one, none of them called 'text'")
        self.chunks = tuple(chunks)
        self.target_seconds = target_seconds
        self.log: list[Choice] = []
        self._tolerance = drop_tolerance
        self._text_first = text_first
        self._detection = detection_seconds
        self._labels = next(iter(labels))
        self._best_bandwidth = 0.0
        self._busy_until = 0.0

    def computed(self, at: float) -> None:
        """The decoder will be done with everything that has arrived ``at`` seconds after the start."""
        self._busy_until = at

    def choose(self, chunk: int, elapsed: float, rates: Rates) -> Choice:
        """Which option of ``chunk`` to fetch now."""
        options = self._options(chunk, rates)
        if rates.bandwidth is None:
            middle = self._labels[len(self._labels) // 2]
            return self._note(chunk, middle, "choose", "bandwidth unknown, the middle level", elapsed, rates, elapsed)
        self._best_bandwidth = max(self._best_bandwidth, rates.bandwidth)
        in_time = False
        for option in options:
            same = self._finish(chunk, [option], elapsed, rates, then=option)
            if same > self.target_seconds:
                continue
            in_time = True
            if self._worst(chunk, option, elapsed, rates) <= self.target_seconds:
                best = option == options[0]
                reason = "the best there is, in time" if best else "the best that is in time"
                return self._note(chunk, option, "choose", reason, elapsed, rates, same)
        fastest = self._fastest(chunk, rates)
        finish = self._finish(chunk, [fastest], elapsed, rates, then=None)
        if in_time:
            reason = f"the fastest: a fall of bandwidth by {self._tolerance:g} would leave too little time"
        elif finish <= self.target_seconds:
            reason = "the fastest, just in time"
        else:
            reason = f"the fastest, {finish - self.target_seconds:.2f} s late"
        return self._note(chunk, fastest, "choose", reason, elapsed, rates, finish)

    def reconsider(self, current: Choice, received_bytes: int, elapsed: float, rates: Rates) -> Choice | None:
        """Another option for the chunk under way when waiting for it would miss the target, else None."""
        if rates.bandwidth is None or current.option == TEXT:
            return None
        chunk = current.chunk
        left = max(current.size_bytes - received_bytes, 0)
        waiting = self._finish(chunk, [current.option], elapsed, rates, then=None, bytes_left=left)
        if waiting <= self.target_seconds:
            return None
        stay = left / rates.bandwidth
        finishes = {}
        for option in self._options(chunk, rates):
            if option != current.option and self._seconds(chunk, option, rates) <= _GAIN * stay:
                finish = self._finish(chunk, [option], elapsed, rates, then=None)
                if finish < waiting:
                    finishes[option] = finish
        if not finishes:
            return None
        timely = [option for option, finish in finishes.items() if finish <= self.target_seconds]
        option = timely[0] if timely else min(finishes, key=lambda name: finishes[name])
        reason = f"{left:,} bytes of {current.option} left would be ready by {waiting:.3f} s"
        return self._note(chunk, option, "switch", reason, elapsed, rates, finishes[option])

    def compute_seconds(self, chunk: int, option: str, rates: Rates) -> float:
        """Seconds that decoding or recomputing ``option`` takes."""
        offer = self.chunks[chunk]
        if option == TEXT:
            return offer.tokens / rates.prefill if rates.prefill else float("inf")
        level = offer.levels[self._labels.index(option)]
        return level.decoded_bytes / rates.decode.get(option, float("inf"))

    def _options(self, chunk: int, rates: Rates) -> list[str]:
        """Labels from the best to the worst."""
        levels = [level.label for level in self.chunks[chunk].levels]
        if rates.prefill is None or self.chunks[chunk].text_bytes is None:
            return levels
        return [TEXT, *levels] if self._text_first else [*levels, TEXT]

    def _size(self, chunk: int, option: str) -> int:
        if option == TEXT:
            return self.chunks[chunk].text_bytes or 0
        return self.chunks[chunk].levels[self._labels.index(option)].size_bytes

    def _seconds(self, chunk: int, option: str, rates: Rates) -> float:
        """How long ``option`` takes on its own; decoding overlaps its transfer, recomputing does not."""
        transfer = rates.latency + self._size(chunk, option) / (rates.bandwidth or 1e-9)
        compute = self.compute_seconds(chunk, option, rates)
        return transfer + compute if option == TEXT else max(transfer, compute)

    def _fastest(self, chunk: int, rates: Rates) -> str:
        return min(self._options(chunk, rates), key=lambda option: self._seconds(chunk, option, rates))

    def _finish(
        self,
        chunk: int,
        first: Sequence[str],
        elapsed: float,
        rates: Rates,
        *,
        then: str | None,
        bytes_left: int | None = None,
    ) -> float:
        """When the last chunk is ready: ``first`` options from ``chunk`` on, afterwards ``then`` (None: the fastest).

        The link carries one chunk after the other while the decoder works on what has arrived. ``bytes_left``
        replaces the size of the first chunk.
        """
        link = elapsed
        compute = max(self._busy_until, elapsed)
        for number in range(chunk, len(self.chunks)):
            place = number - chunk
            option = first[place] if place < len(first) else then
            if option is None or option not in self._options(number, rates):
                option = self._fastest(number, rates)
            size = bytes_left if place == 0 and bytes_left is not None else self._size(number, option)
            link += rates.latency + size / (rates.bandwidth or 1e-9)
            work = self.compute_seconds(number, option, rates)
            compute = max(compute, link) + work if option == TEXT else max(compute + work, link)
        return max(link, compute)

    def _worst(self, chunk: int, option: str, elapsed: float, rates: Rates) -> float:
        """When the last chunk is ready if the bandwidth falls at the worst moment of this one, and stays low."""
        bandwidth = rates.bandwidth or 1e-9
        floor = min(bandwidth, self._best_bandwidth / self._tolerance)
        low = Rates(bandwidth=floor, decode=rates.decode, prefill=rates.prefill, latency=rates.latency)
        rest = self._finish(chunk, [], elapsed, low, then=None)
        if floor == bandwidth:
            return self._finish(chunk, [option], elapsed, low, then=None)
        # the worst moment is when so much is left that beginning anew is just not worth it
        anew = self._seconds(chunk, self._fastest(chunk, low), low)
        left = min(self._size(chunk, option), anew / _GAIN * floor)
        spent = (self._size(chunk, option) - left) / bandwidth
        return rest - anew + spent + max(left / floor, anew) + self._detection

    def _note(
        self,
        chunk: int,
        option: str,
        kind: Literal["choose", "switch"],
        reason: str,
        elapsed: float,
        rates: Rates,
        finish: float,
    ) -> Choice:
        choice = Choice(
            chunk=chunk,
            option=option,
            kind=kind,
            reason=reason,
            size_bytes=self._size(chunk, option),
            elapsed=elapsed,
            bandwidth=rates.bandwidth,
            expected_finish=finish,
        )
        self.log.append(choice)
        return choice
