"""A picture of a page, by a headless Chromium."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from offjax.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip


def find_browser() -> str | None:
    """Path of an installed Chromium or Chrome, None if there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def take(page: Path, out: Path, width: int = 1280, height: int = 1360) -> None:
    """Writes a PNG of the top of `page`, twice as fine as `width` × `height`.

    Raises:
      UserError: no browser is installed, or it made no picture.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    result = _browse(
        page, f"--window-size={width},{height}", "--force-device-scale-factor=2",
        f"--screenshot={out.resolve()}",
    )  # fmt: skip
    if not out.is_file():
        reason = result.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise UserError(
            f"The browser made no picture at {str(out)!r} ({reason[0]}). Check that "
            "the folder can be written to and that the browser starts."
        )


def take_whole(page: Path, out: Path) -> None:
    """Writes a PNG of a page that tells its size: the body's `data-size`, `W,H`.

    Raises:
      UserError: as `take` does.
    """
    size = re.search(r'data-size="(\d+),(\d+)"', _browse(page, "--dump-dom").stdout)
    take(page, out, *(map(int, size.groups()) if size else ()))


def _browse(page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Opens a page in a browser with a profile of its own.

    Raises:
      UserError: no browser is installed.
    """
    browser = find_browser()
    if browser is None:
        raise UserError(
            f"No browser for a picture: none of {', '.join(BROWSERS)} is installed. "
            "Install one, on Debian with `apt-get install chromium`."
        )
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", *flags]
        return subprocess.run(
            [*command, page.resolve().as_uri()],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
