"""Files: the container, its limits and errors, and media, bytes and tensors in and out.

Nothing here knows a codec. ``SPEC.md`` in this folder is the normative description of the container.
"""

from __future__ import annotations
