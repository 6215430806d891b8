"""A real browser without a window, for tests of pages: Debian's Chromium, spoken to by its DevTools protocol.

`--remote-debugging-pipe`: each message is JSON and ends with a NUL; the browser reads them from descriptor 3
and writes its own to 4 (chromedevtools.github.io/devtools-protocol).
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: Debian's programs, the smaller package first.
PROGRAMS = ("chromium-headless-shell", "chromium")

#: Seconds that a browser has to end when it is asked to.
END_S = 60

#: No network of its own, no graphics card; root can't have a sandbox.
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--disable-background-networking", "--no-first-run", "--remote-debugging-pipe",
)  # fmt: skip


class Page:
    """One page in a browser."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._out = open(to_browser, "wb", buffering=0)  # noqa: SIM115 - closed by `close`
        self._in = open(from_browser, "rb")  # noqa: SIM115 - closed by `close`
        self._calls = 0
        self._session: str | None = None
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self("Page.enable")

    def __call__(self, method: str, **parameters: object) -> Any:
        """Call a method of the protocol; its result."""
        self._calls += 1
        call: dict[str, object] = {"id": self._calls, "method": method, "params": parameters}
        if self._session is not None:
            call["sessionId"] = self._session
        self._out.write(json.dumps(call).encode() + b"\0")
        while (answer := self._next()).get("id") != self._calls:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self._in.read(1)) != b"\0":
            assert byte, "the browser has ended"
            message += byte
        found: dict[str, Any] = json.loads(message)
        return found

    def open(self, path: Path, width: int = 960, height: int = 800) -> None:
        """Show a file in a window of that size, and wait until it is there."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self("Emulation.setDeviceMetricsOverride", **screen)
        self("Page.navigate", url=path.absolute().as_uri())
        self.value("new Promise(done => document.readyState == 'complete' ? done() : onload = done)")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, or what its promise is kept with."""
        found = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def point_at(self, x: float, y: float) -> None:
        """Move the pointer there, in pixels of the window."""
        self("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def dark(self, on: bool) -> None:
        """As where the user prefers dark pages."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self) -> bytes:
        """The whole page as PNG."""
        taken = self("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(taken["data"])

    def close(self) -> None:
        """Close the connection, upon which the browser ends."""
        self._out.close()
        self._in.close()


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A page of a browser that keeps its files in the folder. Skips the test where there is no browser; fails
    it in CI."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        what = f"none of {', '.join(PROGRAMS)} is installed; scripts/test does it for root"
        if os.environ.get("CI"):
            pytest.fail(what)
        pytest.skip(what)
    read_by_browser, to_browser = os.pipe()
    from_browser, written_by_browser = os.pipe()
    command = shlex.join([program, *OPTIONS, f"--user-data-dir={folder}"])
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command} 3<&{read_by_browser} 4>&{written_by_browser}"],
        pass_fds=(read_by_browser, written_by_browser),
        stderr=subprocess.DEVNULL,
    )
    os.close(read_by_browser)
    os.close(written_by_browser)
    try:
        page = Page(to_browser, from_browser)
        try:
            yield page
        finally:
            page.close()
        process.wait(END_S)
    finally:
        process.kill()
        process.wait(END_S)
