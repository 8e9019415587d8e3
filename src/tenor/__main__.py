"""`python -m tenor`, the form in which launchers such as torchrun start a command."""

import sys

from tenor.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
