"""Published files fetched over HTTP: resumed, retried, checked, renamed when complete.

Places are URL prefixes, tried in turn: those of $OFFJAX_MIRRORS (separated by commas,
or the path of a text file with one on each line), then the publisher's own.
$OFFJAX_OFFLINE=1 forbids all of it.

A partial file lies hidden beside its target, with its place and version (ETag or date);
it is continued only where the server confirms that version. Of two processes that want
the same file, the second waits and finds it there.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from offjax import locks
from offjax.errors import UserError

D4RL = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
OGBENCH = "https://rail.eecs.berkeley.edu/datasets/ogbench"

TIMEOUT = 10.0
"""Seconds without an answer or a byte after which a connection is given up."""

ATTEMPTS = 4
"""Times in a row that a place may fail without a byte gained."""

BACK_OFF = 0.5
"""Seconds before the first new attempt; doubled for each further one."""

_CHUNK = 1 << 20
_SPARE = 64 << 20  # bytes that a download leaves free on the disk
_ERRORS = (OSError, http.client.HTTPException, ValueError)


class _Failed(Exception):
    """One attempt came to nothing; `final` where another one would too."""

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


def places(publisher: str) -> list[str]:
    """URL prefixes in the order they are tried: $OFFJAX_MIRRORS, `publisher`.

    Raises:
      UserError: a prefix that is not http:// or https://, or a list that cannot be
        read.
    """
    text = os.environ.get("OFFJAX_MIRRORS", "")
    if text and "://" not in text:
        try:
            text = Path(text).expanduser().read_text()
        except (OSError, ValueError) as error:
            raise UserError(
                f"$OFFJAX_MIRRORS is {text!r}, neither URL prefixes separated by "
                f"commas nor a readable text file with one on each line ({error})."
            ) from error
    lines = [line.strip() for line in text.replace(",", "\n").splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    for prefix in found:
        if not prefix.startswith(("http://", "https://")):
            raise UserError(
                f"$OFFJAX_MIRRORS names the place {prefix!r}; a place is a URL prefix "
                "that begins with http:// or https://."
            )
    return [prefix.rstrip("/") for prefix in (*found, publisher)]


def obtain(
    absent: str,
    relative: str,
    target: Path,
    publisher: str,
    signature: bytes,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Downloads a published file that is in none of the places where it may lie.

    Other arguments are those of `fetch`.

    Args:
      absent: sentences that say so, with which errors begin.
      publisher: the last URL prefix that is tried.

    Raises:
      UserError: it could not be had, or downloads are forbidden.
    """
    if os.environ.get("OFFJAX_OFFLINE", "") not in ("", "0"):
        raise UserError(f"{absent} It was not downloaded: $OFFJAX_OFFLINE is set.")
    prefixes = places(publisher)
    try:
        return fetch(relative, target, prefixes, signature, progress)
    except UserError as error:
        raise UserError(f"{absent} {error}") from error


def fetch(
    relative: str,
    target: Path,
    prefixes: Sequence[str],
    signature: bytes,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Downloads `<prefix>/<relative>` to `target` from the first place that has it.

    Args:
      relative: path of the file under a prefix.
      target: where it is to lie; one that is there already is left alone.
      prefixes: places, as of `places`.
      signature: bytes that such a file begins with; what does not is refused.
      progress: called with a line of text about every two seconds.

    Raises:
      UserError: no place delivered it (naming each and why), or the disk is full or
        cannot be written. Nothing incomplete ever lies at `target`.
    """
    say = progress or (lambda _: None)
    lock = target.with_name(f".{target.name}.lock")
    failures = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        waiting = f"waiting for another process that downloads {target}"
        with locks.exclusive(lock, lambda: say(waiting)):
            for prefix in prefixes:
                if target.is_file():
                    return target
                url = f"{prefix}/{relative}"
                try:
                    _from_place(url, target, signature, say)
                except _Failed as failure:
                    failures.append(f"{url} ({failure})")
            if target.is_file():
                return target
    except OSError as error:
        raise UserError(
            f"{relative} cannot be written to {target.parent} ({error}). Make the "
            "folder writable, or choose another with --data_dir."
        ) from error
    raise UserError(
        f"{target} could not be downloaded from {'; '.join(failures)}. Further places "
        "can be named in $OFFJAX_MIRRORS."
    )


def _from_place(
    url: str, target: Path, signature: bytes, say: Callable[[str], None]
) -> None:
    """Fetches one URL with retries; `_Failed` where it cannot be had there."""
    part = target.with_name(f".{target.name}.part")
    failed = 0
    while True:
        before = _size(part)
        try:
            _attempt(url, part, say)
            break
        except _Failed as failure:
            reason = failure
        except _ERRORS as error:
            _refuse_full_disk(error, part, target)
            reason = _Failed(f"{type(error).__name__}: {error}", final=_hopeless(error))
        failed = 1 if _size(part) > before else failed + 1
        if reason.final or failed == ATTEMPTS:
            raise reason
        say(f"{url}: {reason}; trying again")
        time.sleep(BACK_OFF * 2 ** (failed - 1))
    with part.open("rb") as stream:
        genuine = stream.read(len(signature)) == signature
    if not genuine:
        _discard(part)
        raise _Failed("what it sends is not such a file", final=True)
    part.replace(target)
    _discard(part)


def _attempt(url: str, part: Path, say: Callable[[str], None]) -> None:
    """One connection: continues `part` where that is safe, else begins anew."""
    known = _version_of(part, url)
    offset = _size(part) if known else 0
    request = urllib.request.Request(url, headers={"User-Agent": "offjax"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        request.add_header("If-Range", known)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the part is no longer a beginning of the file
            _discard(part)
        passing = error.code in (408, 416, 425, 429) or error.code >= 500
        raise _Failed(f"HTTP {error.code}", final=not passing) from error
    with response:
        continues = response.status == 206
        if continues and not _begins_at(response, offset):
            _discard(part)
            raise _Failed("it sent another part than asked for")
        if not continues:
            offset = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else offset + int(length)
        _refuse_small_disk(part, 0 if total is None else total - offset)
        if not continues:
            _remember(part, url, response.headers)
        _save(response, part, offset, total, say)
    found = _size(part)
    if total is not None and found != total:
        raise _Failed(f"it sent {found:,} of {total:,} bytes")


def _save(
    response: Any,
    part: Path,
    offset: int,
    total: int | None,
    say: Callable[[str], None],
) -> None:
    """Appends the answer's body to `part`, cut to `offset` bytes, with progress."""
    start = spoken = time.monotonic()
    done = offset
    size = "" if total is None else f" of {total / 1e6:,.1f}"
    say(f"downloading {response.url}")
    with part.open("r+b" if offset else "wb") as stream:
        stream.truncate(offset)
        stream.seek(offset)
        while chunk := response.read1(_CHUNK):
            stream.write(chunk)
            done += len(chunk)
            now = time.monotonic()
            if now - spoken > 2.0:
                spoken = now
                rate = (done - offset) / 1e6 / (now - start)
                say(f"  {done / 1e6:,.1f}{size} MB, {rate:.1f} MB/s")


def _begins_at(response: Any, offset: int) -> bool:
    found = str(response.headers.get("Content-Range", ""))
    return found.startswith(f"bytes {offset}-")


def _hopeless(error: BaseException) -> bool:
    """Whether there is no such host, or no way to it: waiting will not help."""
    cause = getattr(error, "reason", None)
    return isinstance(cause, (socket.gaierror, TimeoutError, ConnectionError)) or (
        isinstance(cause, OSError)
        and cause.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)
    )


def _refuse_full_disk(error: BaseException, part: Path, target: Path) -> None:
    cause = getattr(error, "errno", None)
    if cause in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        _discard(part)
        raise UserError(
            f"The disk ran full while {target.name} was downloaded to {target.parent}. "
            "Free some space or choose another folder with --data_dir; the part that "
            "had arrived was removed."
        ) from error
    if isinstance(error, PermissionError):
        raise error


def _refuse_small_disk(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < needed + _SPARE:
        raise UserError(
            f"{part.parent} has {free / 1e6:,.0f} MB free, and {part.name[1:-5]} needs "
            f"{needed / 1e6:,.0f} MB. Free some space, or choose another folder with "
            "--data_dir."
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _notes(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _remember(part: Path, url: str, headers: Any) -> None:
    """Writes down what the part is a part of; only a strong ETag or a date will do."""
    tag = headers.get("ETag", "")
    version = tag if tag.startswith('"') else headers.get("Last-Modified", "")
    part.unlink(missing_ok=True)
    _notes(part).write_text(json.dumps({"url": url, "version": version}))


def _version_of(part: Path, url: str) -> str:
    """Version of the file that `part` is the beginning of; "" to begin anew."""
    with suppress(OSError, ValueError):
        notes = json.loads(_notes(part).read_text())
        if isinstance(notes, dict) and notes.get("url") == url:
            version = str(notes.get("version", ""))
            return version if version.isprintable() else ""
    return ""


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)
