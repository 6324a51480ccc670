"""`offjax import-scores`, in a checkout: `python -m experiments.import_scores`."""

from offjax.cli import import_scores
from offjax.cli.command import start

if __name__ == "__main__":
    start(import_scores)
