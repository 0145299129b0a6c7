"""Entry point of ``python -m experiments``."""

from experiments.cli import main
from experiments.study import leave

if __name__ == "__main__":
    leave(main())
