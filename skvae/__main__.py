"""``python -m skvae``, where the command ``skvae`` is not on the path."""

import sys

from skvae.cli import main

if __name__ == "__main__":
    sys.exit(main())
