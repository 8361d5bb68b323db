"""Installs the wheel into a fresh environment and uses the command as a new user would.

The dependencies are taken from the environment that runs this script; the package itself comes from the wheel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

from wheel_building import build_wheel


def main() -> int:
    """Return 0 when everything answered as it should."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = fresh_environment(folder)
        codec = folder / "venv" / "bin" / "codec"
        clip = folder / "clip.npy"
        program = (
            "import sys, numpy as np, codeckit; "
            "assert 'site-packages' in codeckit.__file__, codeckit.__file__; "
            "t, y, x = np.ogrid[:4, :32, :64]; "
            "clip = np.stack([(3 * x + 5 * t) % 256 + 0 * y, (4 * y + t) % 256 + 0 * x, (x + y + t) % 256], -1); "
            "np.save(sys.argv[1], clip.astype(np.uint8))"
        )
        run(environment, folder / "venv" / "bin" / "python", "-c", program, clip)
        run(environment, codec, "--help")
        run(environment, codec, "list", "--settings")
        settings = ["--codec", "hnerv", "--set", "epochs=2"]
        report = json.loads(run(environment, codec, "encode", clip, "-o", folder / "clip.ck", "--json", *settings))
        assert report["output_bytes"] == (folder / "clip.ck").stat().st_size
        run(environment, codec, "verify", folder / "clip.ck")
        described = json.loads(run(environment, codec, "info", folder / "clip.ck", "--json"))
        assert described["codec"] == "hnerv"
        run(environment, codec, "decode", folder / "clip.ck", "-o", folder / "back.npy")
        assert (folder / "back.npy").stat().st_size > 0
    print("smoke test: the installed command encodes, verifies, describes and decodes")
    return 0


def fresh_environment(folder: Path) -> dict[str, str]:
    """A virtual environment that holds only the wheel and sees this one's dependencies behind it."""
    venv.create(folder / "venv", with_pip=False)
    wheel = build_wheel(folder / "wheel")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "venv" / "lib" / version / "site-packages"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    python = str(folder / "venv" / "bin" / "python")
    subprocess.run([*install[:3], "--python", python, *install[3:], str(wheel)], check=True)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def run(environment: dict[str, str], *words: object) -> bytes:
    """Run a command and return its standard output; failure ends the test."""
    command = [str(word) for word in words]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, cwd="/")
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
