"""A headless Chromium driven through the WebDriver protocol, with nothing but the standard library."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest


class Browser:
    """One window; a context manager. Skips the test where Chromium or its driver is not installed."""

    def __init__(self, folder: Path) -> None:
        driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
        if driver is None or chromium is None:
            pytest.skip("Chromium and its driver are not installed (Debian: chromium, chromium-driver)")
        self._log = folder / "chromedriver.log"
        self._process = subprocess.Popen([driver, "--port=0"], stdout=self._log.open("w"), stderr=subprocess.STDOUT)
        self._address = f"http://127.0.0.1:{self._port()}"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
        options = {"binary": chromium, "args": arguments}
        capabilities = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        self._session = self._ask("POST", "/session", {"capabilities": capabilities})["sessionId"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        try:
            self._ask("DELETE", f"/session/{self._session}")
        finally:
            self._process.terminate()
            self._process.wait(30)

    def open(self, path: Path) -> None:
        self._command("POST", "/url", {"url": path.resolve().as_uri()})

    def resize(self, width: int, height: int) -> None:
        self._command("POST", "/window/rect", {"width": width, "height": height})

    def run(self, script: str, *arguments: Any) -> Any:
        return self._command("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def click(self, selector: str) -> None:
        """A real click on the first element that ``selector`` finds, scrolled into view."""
        found = self._command("POST", "/element", {"using": "css selector", "value": selector})
        (element,) = found.values()
        self._command("POST", f"/element/{element}/click", {})

    def screenshot(self, target: Path) -> bytes:
        data = base64.b64decode(self._command("GET", "/screenshot"))
        target.write_bytes(data)
        return data

    def problems(self) -> list[str]:
        """What the page logged as an error so far."""
        return [entry["message"] for entry in self._command("POST", "/se/log", {"type": "browser"})]

    def _command(self, method: str, path: str, body: Any = None) -> Any:
        return self._ask(method, f"/session/{self._session}{path}", body)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self._address + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def _port(self) -> int:
        for _ in range(300):
            found = re.search(r"successfully on port (\d+)", self._log.read_text())
            if found:
                return int(found[1])
            time.sleep(0.1)
        raise AssertionError(f"chromedriver did not start: {self._log.read_text()}")
