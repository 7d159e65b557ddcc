"""``python -m skvae.cli``, where the command ``skvae`` is not on the path."""

import sys

from skvae.cli import main

sys.exit(main())
