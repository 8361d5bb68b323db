"""Finding the profile a cache was or should be encoded with: named by the caller, or shipped with the package."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ...formats.errors import InvalidParameter
from .profile import Profile, load_profile

if TYPE_CHECKING:
    from .cache import CacheTable

__all__ = ["PROFILE_FOLDER", "find_profile", "profile_for_file"]

PROFILE_FOLDER = Path(__file__).parent / "profiles"


def find_profile(name: str, table: CacheTable) -> Profile | None:
    """The profile for encoding: ``none``, ``auto`` (a shipped one for the cache's model, else none), or a path.

    Raises :class:`InvalidParameter` when a named profile is missing or made for another model.
    """
    if name == "none":
        return None
    if name == "auto":
        path = PROFILE_FOLDER / f"{table.model}.safetensors"
        plain = table.model and "/" not in table.model and not table.model.startswith(".")
        if not plain or not path.is_file():
            return None
    else:
        path = Path(name)
    profile = _load(path)
    profile.check_fits(table)
    return profile


def profile_for_file(sha256: str, path: str | None) -> Profile:
    """The profile with this SHA-256: at ``path`` if given, else among the shipped ones.

    Raises :class:`InvalidParameter` naming both when the profile at ``path`` is another one.
    """
    if path is not None:
        profile = _load(Path(path))
        if profile.sha256 != sha256:
            raise InvalidParameter(
                f"the file needs the profile {sha256[:12]}..., {path} (of {profile.table.model!r}) is "
                f"{profile.sha256[:12]}...; pass the one it was encoded with"
            )
        return profile
    for candidate in sorted(PROFILE_FOLDER.glob("*.safetensors")):
        profile = _load(candidate)
        if profile.sha256 == sha256:
            return profile
    raise InvalidParameter(
        f"the file needs the profile {sha256[:12]}..., which is not shipped; pass it with --set profile=FILE"
    )


def _load(path: Path) -> Profile:
    try:
        status = path.stat()
    except OSError:
        return load_profile(path)  # which says why it cannot be read
    return _load_once(path.resolve(), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _load_once(path: Path, _modified: int, _size: int) -> Profile:
    return load_profile(path)
