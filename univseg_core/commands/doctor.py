"""`univseg doctor`: whether this machine can train and run the node, and what would help."""

import argparse

from univseg_core.colours import painted
from univseg_core.commands.options import Command
from univseg_core.commands.output import report

EXAMPLES = """examples:
  univseg doctor                              what is there, and the fix of what is not
  univseg doctor --json > doctor.json         for a bug report
  univseg doctor --quiet || [ $? = 4 ]        will a training run here, whatever the node does?
"""


def add_to(command: Command) -> None:
    """Add the command to the command line's grammar."""
    command('doctor', _doctor, 'look at this machine: will a training run here, will the node, '
            'and what would mend what is missing', f'{EXAMPLES}\n{STATUSES}')


STATUSES = """exit status:
  0  a training and the node will run here
  3  a training will not
  4  the node will not
  5  neither will
"""


def _doctor(options: argparse.Namespace) -> int:
    from univseg_core.doctor.examination import examine

    found = examine()
    report(options, found.to_dict(), found.as_text(painted))
    return found.status
