"""The items that fared worst, with what became of them, for a person to look at."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .curves import Board
from .peers import ORIGINAL, find_peer
from .results import ResultRow
from .store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["worst_items"]

ITEMS = 6
SIDE = 320
QUALITY = 85


def worst_items(store: Store, board: Board, rows: Sequence[ResultRow], *, items: int = ITEMS) -> list[dict[str, Any]]:
    """The items with the lowest mean rank over curves by the first scorer; pictures with their reconstructions.

    Each item is shown at the cheapest point of every curve.
    """
    import numpy as np

    judged = next((name for name, one in board.scorers.items() if not one.is_task), next(iter(board.scorers), None))
    cheapest = [members[0] for name, members in board.curves().items() if board.points[members[0]].codec != ORIGINAL]
    if judged is None or not cheapest:
        return []
    sign = 1.0 if board.scorers[judged].higher_is_better else -1.0
    values = sign * board.values[judged][cheapest]
    usable = np.flatnonzero(~np.isnan(values).any(axis=0))
    ranks = values[:, usable].argsort(axis=1).argsort(axis=1).mean(axis=0)
    found = {(row.item, row.curve, row.settings): row for row in rows}
    worst = []
    for number in usable[ranks.argsort(kind="stable")[:items]]:
        item = board.items[number]
        shown = [found[item, board.points[point].curve, board.points[point].settings] for point in cheapest]
        worst.append(
            {
                "item": item,
                "judgedBy": judged,
                "original": _original(shown[0]) if board.kind == "image" else None,
                "versions": [_version(store, row) for row in shown],
            }
        )
    return worst


def _version(store: Store, row: ResultRow) -> dict[str, Any]:
    picture = None
    if row.kind == "image" and row.file is not None:
        peer = find_peer(row.codec)
        # image files say all that is needed to show them: no parameter is asked
        picture = _data_address(peer.decode(store.files / row.file, None, {}))
    return {
        "curve": row.curve,
        "settings": row.settings,
        "rate": row.rate,
        "scores": dict(row.scores),
        "picture": picture,
    }


def _original(row: ResultRow) -> str | None:
    import numpy as np
    from PIL import Image

    try:
        with Image.open(row.input_path) as picture:
            return _data_address(np.asarray(picture.convert("RGB")))
    except OSError:
        return None  # the input has been moved away since; the page says so


def _data_address(picture: NDArray[np.uint8]) -> str:
    """The picture, at most 320 pixels wide and high, inside an address."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
