"""`offjax report`, in a checkout: `python -m experiments.report`."""

from offjax.cli import report
from offjax.cli.command import start

if __name__ == "__main__":
    start(report)
