"""The presets of the text coder: how many contexts, how much memory, how fast the mixer learns.

A preset is part of the bitstream: its numbers may not change without a new bitstream version.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...formats.errors import InvalidParameter

__all__ = ["PRESETS", "Preset", "preset_by_code", "preset_by_name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Sizes and rates of one preset.

    ``line_bits``: log2 of the 64-byte lines of the context table, per block in flight.
    ``apm_bits``: log2 of the rows of the hashed final probability maps.
    ``initial_weight``: 16.16 fixed-point weight of every context input before learning.
    ``rate_start`` (``primed_rate_start`` from a trained state) decays into ``rate_floor`` over a block's first bytes.
    """

    name: str
    code: int
    level: int
    contexts: int
    per_context: int
    matches: int
    uses_memory: bool
    line_bits: int
    match_bits: int
    apm_bits: int
    initial_weight: int
    rate_floor: int
    rate_start: int
    primed_rate_start: int


PRESETS: tuple[Preset, ...] = (
    Preset(
        name="fast",
        code=1,
        level=1,
        contexts=4,
        per_context=2,
        matches=1,
        uses_memory=False,
        line_bits=18,
        match_bits=18,
        apm_bits=11,
        initial_weight=14000,
        rate_floor=20,
        rate_start=60000,
        primed_rate_start=20000,
    ),
    Preset(
        name="balanced",
        code=2,
        level=2,
        contexts=11,
        per_context=2,
        matches=2,
        uses_memory=True,
        line_bits=21,
        match_bits=19,
        apm_bits=13,
        initial_weight=7000,
        rate_floor=13,
        rate_start=60000,
        primed_rate_start=20000,
    ),
    Preset(
        name="max",
        code=3,
        level=3,
        contexts=24,
        per_context=4,
        matches=2,
        uses_memory=True,
        line_bits=22,
        match_bits=20,
        apm_bits=16,
        initial_weight=3000,
        rate_floor=10,
        rate_start=60000,
        primed_rate_start=20000,
    ),
)


def preset_by_name(name: str) -> Preset:
    """The preset called ``name``.

    Raises:
        InvalidParameter: the name is not one of the presets.
    """
    for preset in PRESETS:
        if preset.name == name:
            return preset
    known = ", ".join(preset.name for preset in PRESETS)
    raise InvalidParameter(f"no preset {name!r} in the text codec; choose one of {known}")


def preset_by_code(code: int) -> Preset | None:
    """The preset a file's code byte names, or None when this version has no such preset."""
    for preset in PRESETS:
        if preset.code == code:
            return preset
    return None
