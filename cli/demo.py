"""``make demo``: a neural codec turns a real clip into a real file and back, before your eyes.

Run as ``python -m codeckit.cli.demo [CLIP]``. Without CLIP it takes the test clip beside the repository when that is
there, and else films a slow camera move over a photograph that ships inside matplotlib.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..codecs.run_context import RunContext
from ..decoding import decode
from ..encoding import encode
from ..formats.errors import CodecError
from ..formats.limits import DEFAULT_LIMITS
from .exit_codes import exit_code_of
from .output import ProgressBar, format_size, print_table

if TYPE_CHECKING:
    import numpy as np

__all__ = ["main"]

FRAMES = 32
WIDTH, HEIGHT = 320, 160
OUTPUT = Path("demo-output")
TEST_CLIP = Path("../shared/data/video/bigbuckbunny.mp4")


def main(arguments: list[str]) -> int:
    """Encode, decode, compare and show; returns the exit code."""
    clip = Path(arguments[0]) if arguments else TEST_CLIP
    try:
        if arguments:
            count = frames_of(clip)
            print(f"Clip: {clip}, first {count} frames")
            # the preset chooses a size of the clip's own proportions
            show(clip, {"frames": f"0:{count}"})
        elif clip.exists():
            print(f"Clip: {clip}, first {FRAMES} frames at {WIDTH}x{HEIGHT}")
            show(clip, {"frames": f"0:{FRAMES}", "size": f"{WIDTH}x{HEIGHT}"})
        else:
            print(f"Clip: a camera move over a photograph from matplotlib, {FRAMES} frames at {WIDTH}x{HEIGHT}")
            show(filmed_photograph(), {})
    except CodecError as error:
        print(f"demo: {error}", file=sys.stderr)
        return exit_code_of(error)
    return 0


def show(source: Any, settings: dict[str, str]) -> None:
    """Encode ``source``, decode it, compare, and print what came out."""
    OUTPUT.mkdir(exist_ok=True)
    print("Fitting a small network to it (HNeRV); this takes about a minute on two cores.\n")
    encoded = OUTPUT / "clip.ck"
    with ProgressBar(quiet=False) as bar:
        context = RunContext(progress=bar)
        written = encode(
            source, encoded, codec="hnerv", preset="quick", settings=settings, context=context, overwrite=True
        )
        restored = decode(encoded, OUTPUT / "clip.mp4", context=context, overwrite=True)
        frames = decode(encoded, context=context)
    originals = original_frames(source, frames.shape)
    middle = len(frames) // 2
    save_side_by_side(originals[middle], frames[middle], OUTPUT / "side-by-side.png")
    print_table(
        [
            ("raw RGB frames", format_size(originals.nbytes)),
            ("encoded file", f"{format_size(written.output_bytes)}  {encoded}"),
            ("smaller by", f"{originals.nbytes / written.output_bytes:.0f}x"),
            ("of it sound", format_size(int(written.figures["audio_bytes"] or 0))),
            ("rate", f"{written.figures['bpp']:.4f} bits per pixel, from all bytes of the file"),
            ("quality", f"{mean_psnr(originals, frames):.2f} dB PSNR, measured on the decoded file"),
            ("encode time", f"{written.seconds:.1f} s on {written.device}"),
            ("decode time", f"{restored.seconds:.2f} s"),
            ("reconstruction", OUTPUT / "clip.mp4"),
            ("original | decoded", OUTPUT / "side-by-side.png"),
        ]
    )
    print("\nThe file is complete: try `.venv/bin/codec info demo-output/clip.ck`.")
    print("A fit this short proves the path, not the rate: block codecs are far ahead at this size.")


def frames_of(clip: Path) -> int:
    """How many of its first :data:`FRAMES` frames a clip has."""
    from ..formats.kinds import open_source

    with open_source("video", clip, limits=DEFAULT_LIMITS) as opened:
        return sum(1 for _ in opened.frames(0, FRAMES))


def filmed_photograph() -> np.ndarray[Any, Any]:
    """A slow pan and zoom over a photograph, uint8 ``[T, H, W, 3]``."""
    import numpy as np
    from matplotlib import get_data_path
    from PIL import Image

    with Image.open(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg") as photograph:
        picture = photograph.convert("RGB")
    frames = []
    for number in range(FRAMES):
        position = number / (FRAMES - 1)
        width = picture.width * (0.95 - 0.25 * position)
        height = width * HEIGHT / WIDTH
        left = (picture.width - width) * (0.2 + 0.6 * position)
        top = (picture.height - height) * (0.1 + 0.3 * position)
        box = (left, top, left + width, top + height)
        frames.append(np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=box)))
    return np.stack(frames)


def original_frames(source: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The frames the encoder saw, uint8 ``[T, H, W, 3]`` of ``shape``."""
    from ..codecs.video.source_frames import load_frames
    from ..formats.kinds import open_source

    count, height, width, _ = shape
    with open_source("video", source, limits=DEFAULT_LIMITS) as opened:
        return load_frames(opened, size=(width, height), frames=(0, count))


def mean_psnr(originals: np.ndarray[Any, Any], frames: np.ndarray[Any, Any]) -> float:
    """Mean of the per-frame PSNR in dB."""
    import numpy as np

    errors = (originals.astype(np.float64) - frames) ** 2
    per_frame = errors.mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / np.maximum(per_frame, 1e-10))))


def save_side_by_side(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any], path: Path) -> None:
    """Original and reconstruction in one picture."""
    import numpy as np
    from PIL import Image

    Image.fromarray(np.concatenate([left, right], axis=1)).save(path)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
