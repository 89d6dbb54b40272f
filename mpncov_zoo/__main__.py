"""`python -m mpncov_zoo`: the command line."""

import sys

from mpncov_zoo.cli import main

sys.exit(main())
