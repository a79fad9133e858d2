"""`python -m lrwidgets`: the command line."""

import sys

from lrwidgets.cli import main

sys.exit(main())
