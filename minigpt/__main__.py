"""Chapter 0. `python -m minigpt` is the command `minigpt`."""

import sys

from minigpt.cli import main

sys.exit(main())
