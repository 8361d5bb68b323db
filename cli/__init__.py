"""The command ``codec``."""

from __future__ import annotations
