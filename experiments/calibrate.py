"""`offjax calibrate`, in a checkout: `python -m experiments.calibrate`."""

from offjax.cli import calibrate
from offjax.cli.command import start

if __name__ == "__main__":
    start(calibrate)
