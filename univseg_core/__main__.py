"""`python -m univseg_core`: the `univseg` command, for launchers of processes."""

import sys

from univseg_core.cli import main

if __name__ == '__main__':
    sys.exit(main())
