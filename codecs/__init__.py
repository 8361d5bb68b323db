"""Codecs: how each kind of data becomes symbols and comes back; plus the protocol and registry they share."""

from __future__ import annotations
