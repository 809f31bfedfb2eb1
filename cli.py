"""`python cli.py COMMAND` is the installed command `tfface COMMAND`."""

import sys

from tfface.cli import main

if __name__ == "__main__":
    sys.exit(main())
