"""`python -m univseg_core`: the `univseg` command, for launchers of processes."""

from univseg_core.cli import run

if __name__ == '__main__':
    run()
