"""The coarse-to-fine order of the pyramid: polyphase grids, stages and their base predictions.

A level splits an image into four grids of every second pixel::

    L R      L is the coarser image, already known when the level starts
    U D      stage A codes D from L, stage B codes R and U from L and D

Functions work on torch tensors ``[batch, planes, height, width]`` that hold integers, in any dtype that represents
them exactly. Neighbours outside the image repeat its edge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["STAGES", "base_predictions_a", "base_predictions_b", "shifted"]

STAGES = ("A", "B")


def shifted(grid: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """``grid`` read at ``(row + rows, column + columns)``, for offsets of -1, 0 or 1."""
    import torch

    height, width = grid.shape[2:]
    row_index = torch.arange(height, device=grid.device).add(rows).clamp(0, height - 1)
    column_index = torch.arange(width, device=grid.device).add(columns).clamp(0, width - 1)
    moved = grid if rows == 0 else grid.index_select(2, row_index)
    return moved if columns == 0 else moved.index_select(3, column_index)


def base_predictions_a(coarse: torch.Tensor) -> torch.Tensor:
    """The rounded mean of the four coarse pixels around each diagonal pixel D."""
    right, below = shifted(coarse, 0, 1), shifted(coarse, 1, 0)
    return _rounded_mean(coarse, right, below, shifted(below, 0, 1))


def base_predictions_b(coarse: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor:
    """The rounded means of the four known pixels around R, then around U: ``[batch, 2 * planes, ...]``."""
    import torch

    around_right = _rounded_mean(coarse, shifted(coarse, 0, 1), diagonal, shifted(diagonal, -1, 0))
    around_under = _rounded_mean(coarse, shifted(coarse, 1, 0), diagonal, shifted(diagonal, 0, -1))
    return torch.cat([around_right, around_under], dim=1)


def _rounded_mean(first: torch.Tensor, second: torch.Tensor, third: torch.Tensor, fourth: torch.Tensor) -> torch.Tensor:
    return (first + second + third + fourth + 2).div(4, rounding_mode="floor")
