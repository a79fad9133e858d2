"""Run the command line with `python -m lrwidgets`."""

import sys

from lrwidgets.cli._main import main

sys.exit(main())
