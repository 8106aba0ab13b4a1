"""`python -m glassgrok` is `glassgrok`."""

import sys

from glassgrok.cli import main

if __name__ == "__main__":
    sys.exit(main())
