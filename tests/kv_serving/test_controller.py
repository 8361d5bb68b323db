"""Choosing levels on a simulated link: what the rules say, and that the delay target holds where a level could."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codeckit.codecs.kv.controller import TEXT, Choice, ChunkOffer, Controller, LevelOffer, Rates
from codeckit.formats.bandwidth import BandwidthMeter
from codeckit.formats.errors import InvalidParameter

STEP = 0.005
DETECTION = 0.25
SIZES = {"fine": 4_000_000, "middle": 2_000_000, "small": 1_000_000}


def offers(count: int, sizes: dict[str, int] = SIZES, *, text: bool = False) -> list[ChunkOffer]:
    levels = tuple(LevelOffer(label=name, size_bytes=size, decoded_bytes=24_000_000) for name, size in sizes.items())
    return [ChunkOffer(tokens=512, levels=levels, text_bytes=2048 if text else None) for _ in range(count)]


@dataclass(frozen=True)
class Link:
    """``before`` bytes per second until ``change`` seconds, then ``after``."""

    before: float
    after: float
    change: float

    def at(self, now: float) -> float:
        return self.before if now < self.change else self.after

    def arrival(self, start: float, size: float) -> float:
        """When ``size`` bytes asked for at ``start`` have come."""
        early = max(self.change - start, 0.0) * self.before
        if size <= early:
            return start + size / self.before
        return max(start, self.change) + (size - early) / self.after


def run(controller: Controller, link: Link, *, prefill: float | None = None) -> tuple[float, list[str]]:
    """Fetch every chunk over ``link`` in small steps; when all is ready, and what was taken."""
    meter = BandwidthMeter()
    meter.begin(-1.0)
    meter.end(0.0, int(link.at(0.0)))  # what the transfers before this context have shown
    now = 0.0
    busy = 0.0
    taken: list[str] = []
    for number in range(len(controller.chunks)):
        rates = Rates(bandwidth=meter.estimate(now), decode={}, prefill=prefill)
        choice = controller.choose(number, now, rates)
        received = 0.0
        while received < choice.size_bytes:
            meter.begin(now)
            got = min(link.at(now) * STEP, choice.size_bytes - received)
            now += got / link.at(now)
            received += got
            meter.end(now, round(got))
            rates = Rates(bandwidth=meter.estimate(now), decode={}, prefill=prefill)
            other = controller.reconsider(choice, round(received), now, rates)
            if other is not None:
                choice, received = other, 0.0
        if choice.option == TEXT and prefill is not None:
            busy = max(busy, now) + controller.chunks[number].tokens / prefill
            controller.computed(busy)
        taken.append(choice.option)
    return max(now, busy), taken


def choose_first(target: float, bandwidth: float | None, **more: float | bool) -> Choice:
    prefill = more.pop("prefill", None)
    controller = Controller(offers(4, text=prefill is not None), target_seconds=target, **more)  # type: ignore[arg-type]
    return controller.choose(0, 0.0, Rates(bandwidth=bandwidth, decode={}, prefill=prefill))


def test_the_best_level_is_taken_when_there_is_time_for_everything() -> None:
    assert choose_first(100, 1e6).option == "fine"


def test_with_the_papers_rule_alone_the_rest_counts_at_the_same_level() -> None:
    # four chunks at 1 MB/s: 16 s, 8 s or 4 s
    assert choose_first(16.1, 1e6, drop_tolerance=1).option == "fine"
    assert choose_first(15.9, 1e6, drop_tolerance=1).option == "middle"
    assert choose_first(7.9, 1e6, drop_tolerance=1).option == "small"


def test_when_nothing_is_in_time_the_fastest_is_taken_and_the_log_says_how_late() -> None:
    choice = choose_first(3, 1e6)
    assert (choice.option, choice.reason) == ("small", "the fastest, 1.00 s late")


def test_an_unknown_bandwidth_means_the_middle_level() -> None:
    assert choose_first(1, None).option == "middle"


def test_text_is_taken_where_recomputing_is_in_time_and_otherwise_not() -> None:
    # 4 chunks of 512 tokens at 1,000 tokens a second: 2.05 s
    assert choose_first(2.1, 100e6, prefill=1000).option == TEXT
    assert choose_first(2.0, 100e6, prefill=1000).option == "fine"
    assert choose_first(2.1, 100e6, prefill=1000, text_first=False).option == "fine"


def test_text_as_the_last_resort_beats_levels_that_come_too_late() -> None:
    assert choose_first(2.2, 1e6, prefill=1000, text_first=False).option == TEXT


def test_a_slow_decoder_counts_as_well_as_a_slow_link() -> None:
    controller = Controller(offers(4), target_seconds=3.5, drop_tolerance=1)
    # 96 MB to decode: 4.8 s at the fine level's rate, 0.96 s at the small level's
    rates = Rates(bandwidth=100e6, decode={"fine": 20e6, "middle": 25e6, "small": 100e6})
    assert controller.choose(0, 0.0, rates).option == "small"


def test_a_backlog_of_decoding_counts() -> None:
    rates = Rates(bandwidth=100e6, decode={"fine": 48e6, "middle": 48e6, "small": 96e6})
    controller = Controller(offers(4), target_seconds=2.5, drop_tolerance=1)
    assert controller.choose(0, 0.0, rates).option == "fine"
    controller.computed(1.4)
    assert controller.choose(0, 0.0, rates).option == "small"


def test_a_chunk_that_would_come_too_late_is_abandoned_for_a_smaller_level() -> None:
    controller = Controller(offers(1), target_seconds=5, drop_tolerance=1)
    fast = Rates(bandwidth=1e6, decode={})
    choice = controller.choose(0, 0.0, fast)
    assert choice.option == "fine"
    assert controller.reconsider(choice, 1_000_000, 1.0, fast) is None
    slow = Rates(bandwidth=0.3e6, decode={})
    other = controller.reconsider(choice, 1_500_000, 1.5, slow)
    assert other is not None
    assert (other.option, other.kind) == ("small", "switch")
    # nearly done: beginning again would only be slower
    assert controller.reconsider(choice, 3_900_000, 4.9, slow) is None


def test_the_log_says_what_was_chosen_and_why() -> None:
    controller = Controller(offers(2), target_seconds=100)
    controller.choose(0, 0.0, Rates(bandwidth=2e6, decode={}))
    assert str(controller.log[0]) == (
        "  0.000 s  chunk 0: choose fine (4,000,000 bytes) at 2 MB/s, ready by 4.000 s: the best there is, in time"
    )


@pytest.mark.parametrize(
    ("count", "more"), [(1, {"target_seconds": 0}), (1, {"target_seconds": 1, "drop_tolerance": 0.5})]
)
def test_impossible_settings_are_refused(count: int, more: dict[str, float]) -> None:
    with pytest.raises(InvalidParameter, match="target"):
        Controller(offers(count), **more)  # type: ignore[arg-type]


def test_chunks_must_offer_the_same_levels() -> None:
    mixed = [*offers(1), *offers(1, {"fine": 3})]
    with pytest.raises(InvalidParameter, match="same levels"):
        Controller(mixed, target_seconds=1)


@settings(max_examples=60, deadline=None)
@given(
    bandwidth=st.floats(5e5, 2e7),
    drop=st.floats(1, 10),
    place=st.floats(0, 1.2),
    slack=st.floats(1.0, 12.0),
    ratio=st.integers(2, 16),
    chunks=st.integers(1, 8),
)
@example(bandwidth=4e6, drop=10, place=0.5, slack=1.0, ratio=4, chunks=8)
@example(bandwidth=4e6, drop=10, place=0.45, slack=1.5, ratio=4, chunks=8)
def test_the_target_holds_where_some_fixed_level_would_have_held_it(
    bandwidth: float, drop: float, place: float, slack: float, ratio: int, chunks: int
) -> None:
    """The bandwidth falls to a tenth or less at any time."""
    small = 500_000
    sizes = {"fine": small * ratio, "middle": small * (ratio + 1) // 2, "small": small}
    link = Link(before=bandwidth, after=bandwidth / drop, change=place * chunks * small * ratio / bandwidth)
    fixed = min(link.arrival(0.0, chunks * size) for size in sizes.values())
    # a level would have held the target with the time to spare that noticing a fall and beginning a chunk anew cost
    anew = small / link.after
    target = slack * fixed + 2 * DETECTION + 0.3 * anew
    controller = Controller(offers(chunks, sizes), target_seconds=target, detection_seconds=DETECTION)
    finish, _ = run(controller, link)
    assert finish <= target


def test_after_a_fall_by_ten_the_rest_is_smaller_and_before_it_was_not() -> None:
    # 8 chunks, 4 MB/s until 2.5 s: fine alone would take 57 s, small alone 2 s
    link = Link(before=4e6, after=4e5, change=2.5)
    controller = Controller(offers(8), target_seconds=24)
    finish, taken = run(controller, link)
    assert finish <= 24
    assert taken[0] == "fine"
    assert "fine" not in taken[-3:]
    assert link.arrival(0.0, 8 * SIZES["fine"]) > 24
    assert any(choice.bandwidth is not None and choice.bandwidth < 1e6 for choice in controller.log)


def test_text_saves_the_target_when_the_link_all_but_stops() -> None:
    link = Link(before=4e6, after=4e3, change=1.0)
    controller = Controller(offers(6, text=True), target_seconds=9, text_first=False)
    finish, taken = run(controller, link, prefill=500)
    assert finish <= 9
    assert taken[-1] == TEXT


def test_a_meter_counts_only_the_time_spent_waiting() -> None:
    meter = BandwidthMeter(window_seconds=1.0)
    assert meter.estimate(0.0) is None
    for start in (0.0, 10.0, 20.0):
        meter.begin(start)
        meter.end(start + 0.5, 1000)
    assert meter.estimate(100.0) == pytest.approx(2000)


def test_a_meter_notices_a_stall_while_it_lasts() -> None:
    meter = BandwidthMeter(window_seconds=0.2)
    for step in range(10):
        meter.begin(step * 0.1)
        meter.end((step + 1) * 0.1, 100_000)
    meter.begin(1.0)
    assert meter.estimate(1.1) == pytest.approx(1e6, rel=0.6)
    stalled = meter.estimate(2.0)
    assert stalled is not None
    assert stalled < 2e5
