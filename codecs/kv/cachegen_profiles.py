"""Where CacheGen's tables come from: a profile that is named or shipped, or the cache itself."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...formats.errors import CorruptFile, InvalidParameter
from .cachegen_profile_file import load_tables, profile_levels
from .cachegen_tables import build_tables, write_tables
from .part_reader import PartReader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...formats.reader import ContainerReader
    from .cache import Cache, CacheTable
    from .cachegen_tables import CacheGenTables

__all__ = ["PROFILE_FOLDER", "channels_last", "check_fits", "fits", "profile_tables", "published_bins", "tables_for"]

PROFILE_FOLDER = Path(__file__).parent / "profiles" / "cachegen"
_SAMPLE_VALUES = 1 << 20
_SAMPLE_TOKENS = 500


def published_bins(bins: int, layer: int, layers: int, role: str) -> int:
    """The published code's bins for keys and values by layer at quality level ``bins`` of 1, 2, 3."""
    if bins == 3:
        return 32
    if bins == 2:
        finer = layers // 3 if role == "key" else 2
        return 32 if layer < finer else 16
    coarse_from = 2 * layers // 3 if role == "key" else 2
    return 12 if layer >= coarse_from else 16


def tables_for(
    cache: Cache, variant: str, level: int, bins: int, profile: str
) -> tuple[CacheGenTables, bytes | None, str | None]:
    """The tables to code with; the payload to store where they are the cache's own; the profile's SHA-256 else."""
    table = cache.table
    path = _profile_path(profile, table.model, variant, level)
    if path is not None:
        tables, model, sha256 = load_tables(path, level)
        if table.model and model and table.model != model:
            raise InvalidParameter(
                f"the cache is of model {table.model!r}, the profile of {model!r}; use a profile made for it"
            )
        check_fits(tables, table, str(path))
        return tables, None, sha256
    reader = PartReader(cache, rotated=True)
    parts = (
        [
            channels_last(reader.read(layer, part, start, stop))
            for start, stop in _sampled(table.tokens - row.first_token, spec.channels)
        ]
        for layer, row in enumerate(table.layers)
        for part, spec in enumerate(row.parts)
    )
    count = sum(len(row.parts) for row in table.layers)
    own_bins = None
    if variant == "published-code":
        own_bins = [published_bins(bins, layer, len(table.layers), part.role) for layer, part, _ in cache.each()]
    tables = build_tables(parts, count, len(table.layers), level=level, bins=own_bins)
    return tables, write_tables(tables), None


def _sampled(tokens: int, channels: int) -> list[tuple[int, int]]:
    """Ranges of tokens to measure tables on: all of them, or some evenly spread where that would take much memory."""
    pieces = max(_SAMPLE_VALUES // (channels * _SAMPLE_TOKENS), 1)
    if tokens <= pieces * _SAMPLE_TOKENS:
        return [(0, tokens)]
    starts = np.linspace(0, tokens - _SAMPLE_TOKENS, pieces).astype(np.int64).tolist()
    return [(start, start + _SAMPLE_TOKENS) for start in starts]


def channels_last(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """[heads, tokens, width] -> [tokens, channels]."""
    return np.ascontiguousarray(values.swapaxes(0, 1)).reshape(values.shape[1], -1)


def check_fits(tables: CacheGenTables, table: CacheTable, name: str) -> None:
    """Raise :class:`InvalidParameter` unless the tables, of the profile ``name``, have the cache's parts."""
    if not fits(tables, table):
        raise InvalidParameter(f"the profile {name} has tables of other layers, heads or channels than the cache")


def fits(tables: CacheGenTables, table: CacheTable) -> bool:
    """Whether the tables have the cache's parts."""
    wanted = [part.channels for layer in table.layers for part in layer.parts]
    return wanted == [own.others.classes.size for own in tables.parts]


def _profile_path(profile: str, model: str, variant: str, level: int) -> Path | None:
    """The profile for encoding: ``none``, ``auto`` (a shipped one for this model and level, else none), or a file."""
    if profile == "none":
        return None
    if profile != "auto":
        if variant == "published-code":
            raise InvalidParameter("variant=published-code measures its tables on the cache; it takes no profile")
        return Path(profile)
    plain = bool(model) and "/" not in model and not model.startswith(".")
    path = PROFILE_FOLDER / f"{model}.safetensors"
    if variant == "published-code" or not plain or not path.is_file() or level not in profile_levels(path):
        return None
    return path


def profile_tables(source: ContainerReader, table: CacheTable, profile: str | None) -> CacheGenTables:
    """The tables a file was coded with: of the file ``profile``, or of a shipped one.

    Raises :class:`InvalidParameter` naming both where the profile is another one.
    """
    wanted = source.header.weights[0]
    level = source.header.parameters.get("level")
    if not isinstance(level, int):
        raise CorruptFile(f"header: level {level!r} is not a number")
    if profile is not None:
        tables, model, sha256 = load_tables(Path(profile), level)
        if sha256 != wanted:
            raise InvalidParameter(
                f"the file needs the profile {wanted[:12]}..., {profile} (of {model!r}) is {sha256[:12]}..."
            )
        check_fits(tables, table, profile)
        return tables
    for candidate in sorted(PROFILE_FOLDER.glob("*.safetensors")):
        if hashlib.sha256(candidate.read_bytes()).hexdigest() == wanted:
            tables, _, _ = load_tables(candidate, level)
            check_fits(tables, table, candidate.name)
            return tables
    raise InvalidParameter(
        f"the file needs the profile {wanted[:12]}..., which is not shipped; pass it with --set profile=FILE"
    )
