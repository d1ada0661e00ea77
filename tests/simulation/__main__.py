"""The simulation as a command: `python -m simulation` in the folder `tests`, or `make simulate SECONDS=3600`."""

import sys

from simulation.jobs import main

if __name__ == "__main__":
    sys.exit(main())
