"""Integers to bits and back: frequency tables, streams, lane blocks and exact arithmetic.

Everything that decides a decoded symbol is an integer. The public names load on first use, so
that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .frequency_table import PRECISION as PRECISION
    from .frequency_table import FrequencyTable as FrequencyTable
    from .frequency_table import normalise_counts as normalise_counts
    from .lanes import decode_lane_list as decode_lane_list
    from .lanes import decode_lanes as decode_lanes
    from .lanes import decode_lanes_tensor as decode_lanes_tensor
    from .lanes import encode_lanes as encode_lanes
    from .numeric_profile import NumericProfile as NumericProfile
    from .numeric_profile import require_profile as require_profile
    from .parametric_tables import SCALE_COUNT as SCALE_COUNT
    from .parametric_tables import parametric_table as parametric_table
    from .parametric_tables import scale_of_index as scale_of_index
    from .parametric_tables import scale_tables as scale_tables
    from .stream_decoding import AnsDecoder as AnsDecoder
    from .stream_decoding import RangeDecoder as RangeDecoder
    from .stream_encoding import AnsEncoder as AnsEncoder
    from .stream_encoding import RangeEncoder as RangeEncoder
    from .streams import decode_symbols as decode_symbols
    from .streams import encode_symbols as encode_symbols
    from .streams import read_symbols as read_symbols

_MODULE_OF_NAME = {
    "PRECISION": "frequency_table",
    "FrequencyTable": "frequency_table",
    "normalise_counts": "frequency_table",
    "decode_lane_list": "lanes",
    "decode_lanes": "lanes",
    "decode_lanes_tensor": "lanes",
    "encode_lanes": "lanes",
    "NumericProfile": "numeric_profile",
    "require_profile": "numeric_profile",
    "SCALE_COUNT": "parametric_tables",
    "parametric_table": "parametric_tables",
    "scale_tables": "parametric_tables",
    "scale_of_index": "parametric_tables",
    "AnsDecoder": "stream_decoding",
    "AnsEncoder": "stream_encoding",
    "RangeDecoder": "stream_decoding",
    "RangeEncoder": "stream_encoding",
    "decode_symbols": "streams",
    "encode_symbols": "streams",
    "read_symbols": "streams",
}

__all__ = [*_MODULE_OF_NAME]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF_NAME:
        return getattr(import_module(f".{_MODULE_OF_NAME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
