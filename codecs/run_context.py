"""What a run may use and how it talks to its caller: device, limits, progress, cancellation, checkpoints."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..formats.errors import Cancelled, DeviceUnavailable, InvalidParameter
from ..formats.limits import DEFAULT_LIMITS, Limits

__all__ = ["CancellationToken", "Progress", "RunContext"]

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One report of progress: ``done`` of ``total`` units of ``stage``.

    ``total`` is None while unknown; ``figures`` are what a person wants to watch, such as ``{"psnr_db": 27.1}``.
    """

    stage: str
    done: int
    total: int | None
    unit: str = "steps"
    figures: dict[str, float] = field(default_factory=dict)


class CancellationToken:
    """Set from any thread or signal handler to ask a run to stop at its next safe point."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Everything about a run that is not part of the bitstream.

    ``device`` is ``auto``, ``cpu`` or ``cuda``; ``threads`` None means all cores; ``checkpoint_folder`` is where long
    work keeps resumable state and ``resume`` whether to continue from it. None of these may change a decoded symbol.
    """

    device: str = "auto"
    threads: int | None = None
    seed: int = 0
    limits: Limits = DEFAULT_LIMITS
    progress: Callable[[Progress], None] | None = None
    warn: Callable[[str], None] | None = None
    cancellation: CancellationToken = field(default_factory=CancellationToken)
    checkpoint_folder: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise InvalidParameter(f"device {self.device!r} is not one of {', '.join(DEVICES)}")
        if self.threads is not None and self.threads < 1:
            raise InvalidParameter(f"threads must be at least 1, got {self.threads}")

    def report(self, stage: str, done: int, total: int | None, *, unit: str = "steps", **figures: float) -> None:
        """Tell the caller how far the run is; also a safe point for cancellation."""
        self.check_cancelled()
        if self.progress is not None:
            self.progress(Progress(stage=stage, done=done, total=total, unit=unit, figures=figures))

    def warning(self, message: str) -> None:
        """Tell the caller something that is not an error."""
        if self.warn is not None:
            self.warn(message)

    def check_cancelled(self) -> None:
        """Raise :class:`Cancelled` when the caller has asked to stop."""
        if self.cancellation.cancelled:
            raise Cancelled("stopped as asked")

    def torch_device(self) -> str:
        """``cuda`` or ``cpu`` for torch; raises :class:`DeviceUnavailable` when ``cuda`` was forced in vain."""
        if self.device == "cpu":
            return "cpu"
        import torch  # heavy: only where a network runs

        if torch.cuda.is_available():
            return "cuda"
        if self.device == "cuda":
            raise DeviceUnavailable("no CUDA device is usable here; pass device=cpu or auto")
        return "cpu"
