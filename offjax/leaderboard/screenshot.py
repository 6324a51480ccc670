"""A picture of a page, by a headless Chromium."""

from __future__ import annotations

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
    browser = find_browser()
    if browser is None:
        raise UserError(
            f"No browser for --screenshot: none of {', '.join(BROWSERS)} is "
            "installed. Install one, on Debian with `apt-get install chromium`."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        result = subprocess.run(
            [
                browser, *FLAGS, f"--user-data-dir={profile}",
                f"--window-size={width},{height}", "--force-device-scale-factor=2",
                f"--screenshot={out.resolve()}", page.resolve().as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    if not out.is_file():
        reason = result.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise UserError(
            f"{browser} made no picture at {str(out)!r} ({reason[0]}). Check that "
            "the folder can be written to and that the browser starts."
        )
