"""How the scenes look: pictures of their states, by MuJoCo without a display.

A picture is a function of the joints' positions and of the buttons' states alone, so
that recorded states can be drawn as well as simulated ones. How it is drawn is part of
the environment:

- two cameras: `static` overlooks the table from the front, `gripper` sits on the hand
  and sees what is between the fingers;
- the arm is drawn by its collision shapes, meshes of the hand by their convex hulls:
  its visual meshes have 190,000 faces and take nearly all of the time; `gripper` shows
  no more of the hand than its fingers, `static` leaves out their linkage;
- no shadows, reflections, smoothing, glass, walls, or marks of the targets;
- buttons and the handles that they lock are red when locked and white when not; the
  only cube of `scene` is yellow, so that it is not taken for one of them.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from offjax.envs import opengl
from offjax.envs.scene import Simulator, Snapshot, Start
from offjax.errors import UserError
from offjax.types import Camera

PIXELS = 64
CAMERAS = (Camera("static", PIXELS, PIXELS), Camera("gripper", PIXELS, PIXELS))
"""What is recorded, unless other sizes are asked for."""

VERSION = 1
"""Raised when pictures change, which are then data of another kind."""

RED, WHITE = (0.96, 0.26, 0.33, 1.0), (0.9, 0.9, 0.9, 1.0)  # locked, unlocked
YELLOW = (0.98, 0.82, 0.2, 1.0)
_LOCKS = (("btngeom_0", "drawer_handle"), ("btngeom_1", "window_handle"))
"""Button and material of the handle, of each lock."""
_HAND = "ur5e/robotiq/"
_BOTH, _STATIC, _GRIPPER, _NOWHERE = 0, 1, 2, 5
"""Groups of shapes by the cameras that see them."""


class _View(NamedTuple):
    """Where a camera stands, in the frame of a body, and what it looks at (m)."""

    body: str
    position: tuple[float, float, float]
    at: tuple[float, float, float]
    up: tuple[float, float, float]
    angle: float  # degrees, vertical
    group: int  # of shapes that it alone sees


_VIEWS = {
    "static": _View(
        "world", (0.78, -0.08, 0.70), (0.385, 0.015, 0.06), (0, 0, 1), 50, _STATIC
    ),
    "gripper": _View(
        _HAND + "base", (0.1, 0, -0.01), (0.025, 0, 0.16), (1, 0, 0), 65, _GRIPPER
    ),
}


class Painter:
    """Draws states of a simulator's scene."""

    def __init__(
        self, simulator: Simulator, cameras: Sequence[Camera] = CAMERAS
    ) -> None:
        """Prepares the drawing; nothing of the simulator is changed by it.

        Raises:
          UserError: a camera that there is not, or OpenGL cannot be had.
        """
        import mujoco

        self._context: Any = None
        for camera in cameras:
            _require_known(camera)
        self._mj, self.cameras = mujoco, tuple(cameras)
        self._furniture = simulator.scene.furniture
        self._model = copy.copy(simulator.env.model)
        self._data = mujoco.MjData(self._model)
        width = sum(camera.width for camera in cameras)
        height = max(camera.height for camera in cameras)
        self._prepare(width, height)
        what = f"Scene {simulator.scene.name!r}"
        self._gl = opengl.context(what, width, height)
        with opengl.drawing(what):
            scale = mujoco.mjtFontScale.mjFONTSCALE_50.value
            self._context = mujoco.MjrContext(self._model, scale)
            offscreen = mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value
            mujoco.mjr_setBuffer(offscreen, self._context)
        self._scene = mujoco.MjvScene(self._model, maxgeom=self._model.ngeom)
        for flag in ("SHADOW", "REFLECTION", "SKYBOX", "HAZE"):
            self._scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = 0
        self._perturb = mujoco.MjvPerturb()
        self._shown = [self._look(i, camera) for i, camera in enumerate(cameras)]
        self._frame = np.zeros((height, width, 3), np.uint8)

    def draw(self, snapshot: Snapshot) -> np.ndarray:
        """The images [H, W, 3] of all cameras, flattened one after the other, uint8."""
        mujoco, model, data = self._mj, self._model, self._data
        self._gl.make_current()
        data.qpos[:] = snapshot.qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        self._color(snapshot.button_states)
        left = 0
        for camera, (eye, option) in zip(self.cameras, self._shown, strict=True):
            everything = mujoco.mjtCatBit.mjCAT_ALL.value
            mujoco.mjv_updateScene(
                model, data, option, self._perturb, eye, everything, self._scene
            )
            place = mujoco.MjrRect(left, 0, camera.width, camera.height)
            mujoco.mjr_render(place, self._scene, self._context)
            left += camera.width
        height, width, _ = self._frame.shape
        whole = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_readPixels(self._frame, None, whole, self._context)
        return self._rows()

    def close(self) -> None:
        """Frees what it holds in OpenGL."""
        if self._context is not None:
            self._gl.make_current()  # else another painter's would be freed
            self._context.free()
            self._gl.free()
            self._context = None

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.close()

    def _rows(self) -> np.ndarray:
        """The images, which stand side by side and upside down, as one row."""
        parts, left = [], 0
        for camera in self.cameras:
            image = self._frame[: camera.height, left : left + camera.width]
            parts.append(image[::-1].ravel())
            left += camera.width
        return np.concatenate(parts)

    def _prepare(self, width: int, height: int) -> None:
        """Cameras, quality, colors and visibility of the copied model."""
        model, quality = self._model, self._model.vis.quality
        quality.offsamples = quality.shadowsize = 0
        quality.numslices, quality.numstacks, quality.numquads = 10, 6, 1
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        model.light_active[1:] = False
        for i, camera in enumerate(self.cameras):
            view = _VIEWS[camera.name]
            model.cam_bodyid[i] = model.body(view.body).id
            model.cam_pos[i] = view.position
            model.cam_quat[i] = _turned(self._mj, view)
            model.cam_fovy[i] = view.angle
        for i in range(model.ngeom):
            model.geom_group[i] = self._group(i)
        if self._furniture:
            model.geom("object_0").rgba[:] = YELLOW

    def _group(self, geom: int) -> int:
        """Which cameras see a shape."""
        model = self._model
        name, group = model.geom(geom).name, model.geom_group[geom]
        body = model.body(model.geom_bodyid[geom]).name
        is_mesh = model.geom_type[geom] == self._mj.mjtGeom.mjGEOM_MESH
        mesh = model.mesh(model.geom_dataid[geom]).name if is_mesh else ""
        if group not in (1, 3) or name.startswith(("wall", "target")):
            return _NOWHERE
        if "glass" in mesh or mesh in ("stopbuttonrod", "stopbuttonrim"):
            return _NOWHERE
        if group == 1:
            return _BOTH
        if not body.startswith(_HAND) or mesh.startswith(_HAND + "base"):
            return _STATIC
        linkage = mesh.removeprefix(_HAND) in ("driver", "coupler", "spring_link")
        return _GRIPPER if linkage else _BOTH

    def _look(self, index: int, camera: Camera) -> tuple[Any, Any]:
        """MuJoCo's camera and what it is shown."""
        eye = self._mj.MjvCamera()
        eye.type, eye.fixedcamid = self._mj.mjtCamera.mjCAMERA_FIXED, index
        option = self._mj.MjvOption()
        option.flags[self._mj.mjtVisFlag.mjVIS_CONVEXHULL] = 1
        option.geomgroup[:] = option.sitegroup[:] = 0
        option.geomgroup[[_BOTH, _VIEWS[camera.name].group]] = 1
        return eye, option

    def _color(self, button_states: np.ndarray) -> None:
        if not self._furniture:
            return
        for (button, handle), state in zip(_LOCKS, button_states, strict=True):
            color = WHITE if state else RED
            self._model.geom(button).rgba[:] = color
            self._model.mat(handle).rgba[:] = color


class PixelSimulator:
    """Places of a scene whose states are drawn; see `Simulator`."""

    def __init__(self, name: str, cameras: str, places: int) -> None:
        """`cameras` as `encode` writes them."""
        self.simulator = Simulator(name, places)
        self._painter = Painter(self.simulator, decode_cameras(cameras))

    def begin(self, place: int, start: Start) -> tuple[np.ndarray, np.ndarray]:
        """Puts a place into a start: state [O] f32, pixels [P] uint8."""
        state = self.simulator.begin(place, start)
        return state, self._painter.draw(self.simulator.snapshot(place))

    def step(self, place: int, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One step with an action [5]: state [O] f32, pixels [P] uint8."""
        state = self.simulator.step(place, action)
        return state, self._painter.draw(self.simulator.snapshot(place))


def encode_cameras(cameras: Sequence[Camera]) -> str:
    """As an argument of a process: "static:64:64,gripper:64:64"."""
    return ",".join(f"{c.name}:{c.height}:{c.width}" for c in cameras)


def decode_cameras(text: str) -> tuple[Camera, ...]:
    """What `encode_cameras` wrote."""
    parts = [part.split(":") for part in text.split(",") if part]
    return tuple(Camera(name, int(h), int(w)) for name, h, w in parts)


def _require_known(camera: Camera) -> None:
    if camera.name not in _VIEWS:
        raise UserError(
            f"The scenes have no camera {camera.name!r}; there are "
            f"{' and '.join(_VIEWS)}."
        )
    if camera.height < 1 or camera.width < 1:
        raise UserError(
            f"Camera {camera.name!r} has images of {camera.height} by {camera.width} "
            "pixels; give it at least one."
        )


def _turned(mujoco: Any, view: _View) -> np.ndarray:
    """Rotation of a camera that looks along −z, its +y up, as a quaternion."""
    back = np.subtract(view.position, view.at)
    back /= np.linalg.norm(back)
    right = np.cross(view.up, back)
    right /= np.linalg.norm(right)
    turned = np.stack([right, np.cross(back, right), back], axis=1)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, turned.ravel())
    return quaternion
