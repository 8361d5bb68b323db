"""The processes in which ``codec bench video`` fits and decodes: one each, so that memory is that of one thing.

A job comes in as JSON on standard input, what was measured goes out as JSON on standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import codeckit

from ..formats.errors import ExternalFailure
from .items import Item, load_item
from .metrics_image import PSNR
from .peak_memory import peak_memory_bytes
from .peers import find_peer, peer_parameters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["affordable_epochs", "main", "measure", "ms_ssim_window"]

_DECODES = 3
_PROBES = (1, 2, 6)  # passes over the clip; the cost of one follows from the difference of the last two
_MS_SSIM_SCALES = 5
_LARGEST_WINDOW = 11

Job = Mapping[str, Any]


def measure(what: str, job: Job) -> dict[str, Any]:
    """Run ``encode`` or ``decode`` of a job, for fitted codecs in a fresh process so that memory is theirs alone.

    Raises :class:`ExternalFailure` with what the process said.
    """
    if not job["fitted"]:
        return {**_WORK[what](job), f"{what}_peak_mib": None}
    command = [sys.executable, "-m", "codeckit.benchmarks.video_process", what]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExternalFailure(f"measuring {job['codec']} failed:\n{done.stderr.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main(what: str) -> None:
    """Do the job of standard input."""
    print(json.dumps(_WORK[what](json.load(sys.stdin))))


def ms_ssim_window(height: int, width: int) -> int:
    """The largest odd window, at most the usual 11, with which pictures of this size have five scales."""
    fits = (min(height, width) - 1) // (1 << (_MS_SSIM_SCALES - 1)) + 1
    odd = fits - (fits + 1) % 2
    return min(_LARGEST_WINDOW, odd)


def _encode(job: Job) -> dict[str, Any]:
    """Write the file at ``target``; a ``cpu_seconds`` budget chooses the number of epochs first."""
    target = Path(job["target"])
    settings = dict(job["settings"])
    content = None if job["fitted"] else load_item(_item(job))  # peers get pictures, fitted codecs read the clip
    if job.get("cpu_seconds"):
        settings["epochs"] = str(affordable_epochs(job, settings, job["cpu_seconds"]))
    wall, cpu = time.perf_counter(), time.process_time()
    figures: Mapping[str, Any] = {}
    if job["fitted"]:
        figures = _fit(job, settings, target)
    else:
        peer = find_peer(job["codec"])
        peer.encode(content, Path(job["path"]), target, peer_parameters(peer, job["preset"], settings))
    return {
        "encode_seconds": round(time.perf_counter() - wall, 2),
        "encode_cpu_seconds": round(time.process_time() - cpu, 2),
        "encode_peak_mib": _mib(peak_memory_bytes()),
        "epochs": int(settings["epochs"]) if "epochs" in settings else None,
        "decoder_parameters": figures.get("decoder_parameters"),
        "estimated_bytes": figures.get("estimated_bytes"),
        "reported_psnr_db": figures.get("psnr_db"),
    }


def affordable_epochs(job: Job, settings: Mapping[str, str], budget: float) -> int:
    """How many epochs take ``budget`` seconds of processor time, from two short fits."""
    spent = []
    probe = Path(job["target"]).with_suffix(".probe")
    for epochs in _PROBES:
        cpu = time.process_time()
        _fit(job, {**settings, "epochs": str(epochs)}, probe)
        spent.append(time.process_time() - cpu)
    probe.unlink()
    _, few, more = spent  # the first fit also loads the libraries
    each = max((more - few) / (_PROBES[2] - _PROBES[1]), 1e-6)
    fixed = max(few - _PROBES[1] * each, 0.0)
    return max(1, round((budget - fixed) / each))


def _fit(job: Job, settings: Mapping[str, str], target: Path) -> Mapping[str, Any]:
    report = codeckit.encode(
        job["path"],
        target,
        codec=job["codec"],
        preset=job["preset"],
        settings=settings,
        context=_context(job),
        overwrite=True,
    )
    return report.figures


def _decode(job: Job) -> dict[str, Any]:
    """Decode the file at ``target`` and judge it. Speed: frames per second of one processor, of a GPU by the clock."""
    clock = time.perf_counter if job["device"] == "cuda" else time.process_time
    seconds = []
    for _ in range(_DECODES):
        begun = clock()
        decoded = _decoded(job)
        seconds.append(clock() - begun)
    peak = _mib(peak_memory_bytes())
    original = load_item(_item(job)).frames
    window = ms_ssim_window(*original.shape[1:3])
    return {
        "decode_fps": round(len(decoded) / max(min(seconds), 1e-6), 2),
        "decode_peak_mib": peak,
        "frames": len(original),
        "pixels": int(original.size // 3),
        "psnr_db": PSNR.function(original, decoded),
        "ms_ssim": _ms_ssim(original, decoded, window) if window >= 3 else None,
        "ms_ssim_window": window if window >= 3 else None,
    }


def _decoded(job: Job) -> NDArray[np.uint8]:
    path = Path(job["target"])
    if job["fitted"]:
        pictures: NDArray[np.uint8] = codeckit.decode(path, context=_context(job))
        return pictures
    peer = find_peer(job["codec"])
    frames: NDArray[np.uint8] = peer.decode(path, peer_parameters(peer, job["preset"], job["settings"]), {}).frames
    return frames


def _ms_ssim(original: NDArray[np.uint8], decoded: NDArray[np.uint8], window: int) -> float:
    """Mean over frames of the multi-scale SSIM (Wang et al. 2003), mean over the colours."""
    import torch
    from pytorch_msssim import ms_ssim

    values = []
    for pair in zip(original, decoded, strict=True):
        one, two = (torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() for picture in pair)
        values.append(float(ms_ssim(one, two, data_range=255.0, win_size=window)))
    return sum(values) / len(values)


def _mib(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else round(size_bytes / (1 << 20), 1)


def _context(job: Job) -> codeckit.RunContext:
    return codeckit.RunContext(device=job["device"], threads=job["threads"])


def _item(job: Job) -> Item:
    return Item(data_set="video", name="clip", kind="video", path=Path(job["path"]), options=job["options"])


_WORK = {"encode": _encode, "decode": _decode}

if __name__ == "__main__":
    main(sys.argv[1])
