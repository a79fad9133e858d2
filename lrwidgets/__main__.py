"""`python -m lrwidgets`: the command line."""

import sys

from lrwidgets.cli._main import main

sys.exit(main())
