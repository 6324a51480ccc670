"""`offjax fqe`, in a checkout: `python -m experiments.fqe`."""

from offjax.cli import fqe
from offjax.cli.command import start

if __name__ == "__main__":
    start(fqe)
