"""Which way MuJoCo draws on this machine, and advice where it cannot draw."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from offjax.errors import UserError

BACKENDS = ("egl", "osmesa", "glfw")
"""Values of $MUJOCO_GL that draw."""


def choose_backend() -> None:
    """EGL where there is no display; the user's own choice stands."""
    windows = sys.platform in ("win32", "darwin")
    if os.environ.get("MUJOCO_GL", "") == "disable":  # where nothing was drawn so far
        del os.environ["MUJOCO_GL"]
    if not windows and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")


@contextlib.contextmanager
def drawing(what: str) -> Iterator[None]:
    """Turns whatever a graphics library fails with into advice."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{what} cannot be drawn here ({type(error).__name__}: {error}). On a "
            "machine without a display MuJoCo draws with EGL (on Debian: `apt install "
            "libegl1 libgl1 libgl1-mesa-dri`); MUJOCO_GL=osmesa (`apt install "
            "libosmesa6`) or MUJOCO_GL=glfw (a display) choose other ways."
        ) from error


def context(what: str, width: int, height: int) -> Any:
    """An OpenGL context of MuJoCo's for pictures of that size, made current.

    It is $MUJOCO_GL's; where that names none of `BACKENDS`, EGL's on Linux and GLFW's
    elsewhere. The module of the backend is taken by its name, since `mujoco` itself
    settles on one when it is first imported.

    Raises:
      UserError: there is none on this machine; the message names packages.
    """
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    if chosen not in BACKENDS:
        chosen = "glfw" if sys.platform in ("win32", "darwin") else "egl"
    with drawing(what):
        made = importlib.import_module(f"mujoco.{chosen}").GLContext(width, height)
        made.make_current()
    return made


def problem(what: str) -> str | None:
    """None if this process can draw, else why not and what to do."""
    try:
        require(what)
    except UserError as error:
        return str(error)
    return None


def require(what: str) -> None:
    """Raises UserError, with the remedy, unless this process can draw."""
    context(what, 16, 16).free()
