"""How fast the scenes are drawn: frames per second of one core, by camera.

    python -m benchmarks.rendering [--scene=scene] [--frames=200]

Each camera alone, and both of a dataset of pixels together.
"""

from __future__ import annotations

import time

from absl import flags

from offjax.cli import command as cli
from offjax.envs.scene import Simulator
from offjax.envs.scene_drawing import CAMERAS, Painter
from offjax.errors import require_least
from offjax.evaluation import scene
from offjax.types import Camera

FLAGS = flags.FLAGS


def rate(simulator: Simulator, cameras: tuple[Camera, ...], frames: int) -> float:
    """Frames per second of processor time, each of all the cameras."""
    painter, snapshot = Painter(simulator, cameras), simulator.snapshot(0)
    painter.draw(snapshot)
    begin = time.process_time()
    for _ in range(frames):
        painter.draw(snapshot)
    return frames / (time.process_time() - begin)


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    flags.DEFINE_string("scene", "scene", "Which scene.")
    flags.DEFINE_integer("frames", 200, "Frames of each measurement.")


def main(_: list[str]) -> None:
    """Prints the rates."""
    require_least(1, frames=FLAGS.frames)
    simulator = Simulator(FLAGS.scene)
    simulator.begin(0, scene.trials(FLAGS.scene, 1).singles[0].start)
    for cameras in (CAMERAS, *((camera,) for camera in CAMERAS)):
        names = " and ".join(camera.name for camera in cameras)
        found = rate(simulator, cameras, FLAGS.frames)
        print(f"{names:20s} {found:5.0f} frames/s")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
