"""`univseg report`: what there is to know of runs, in one HTML file."""

import argparse
from pathlib import Path

from univseg_core.commands.options import add_running, Command, running
from univseg_core.commands.output import report

EXAMPLES = """examples:
  univseg report runs/first                   writes runs/first/report.html
  univseg report runs/first runs/second --out comparison.html      side by side
"""


def add_to(command: Command) -> None:
    """Add the command to the command line's grammar."""
    sub = command('report', _report, 'write all that there is to know of runs as one HTML file: '
                  'curves, classes, pictures, confusion, calibration', EXAMPLES)
    sub.add_argument('runs', nargs='+', type=Path, metavar='RUN',
                     help='the folder of a run, which need not be finished')
    sub.add_argument('--out', type=Path, metavar='FILE.html',
                     help='the file (default: report.html in the folder of the run, or of the '
                          'first of several)')
    add_running(sub, 'or else fp32')


def _report(options: argparse.Namespace) -> None:
    from univseg_core.reporting.html.page import write_report

    out = options.out or options.runs[0] / 'report.html'
    runs = write_report(options.runs, out, **running(options))
    report(options, {'file': str(out), 'notices': {run.name: run.notices for run in runs}},
           str(out))
