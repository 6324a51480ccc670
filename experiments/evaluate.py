"""`offjax evaluate`, in a checkout: `python -m experiments.evaluate`."""

from offjax.cli import evaluate
from offjax.cli.command import start

if __name__ == "__main__":
    start(evaluate)
