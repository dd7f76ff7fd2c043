"""`univseg data`: what a configuration's images and labels are like."""

import argparse

from univseg_core.commands.options import add_config, Command
from univseg_core.commands.output import report

EXAMPLES = """examples:
  univseg data check my.yaml                  counts, sizes, class frequencies, what is wrong
  univseg data check my.yaml domains.street.labelled=100
  univseg data check my.yaml --json | jq '.street.problems'
"""


def add_to(command: Command) -> None:
    """Add `data` and what it does to the command line's grammar."""
    sub = command('data', None, 'check the images and labels of a configuration', EXAMPLES)
    parts = sub.add_subparsers(dest='part', required=True, metavar='check')
    sub = command('check', _check, 'read every image and label, tell what they are like and all '
                  'that is wrong with them', EXAMPLES, parts)
    add_config(sub)


def _check(options: argparse.Namespace) -> None:
    from univseg_core.batches.check import as_text, check_data
    from univseg_core.datasets.folders import DataError
    from univseg_core.settings.config import load_config

    found = {}
    for check in check_data(load_config(options.config, options.overrides)):
        found[check.domain.name] = check
        if not options.json:
            print(as_text(check.domain.name, check), end='\n\n', flush=True)
    if options.json:
        report(options, {name: check.to_dict() for name, check in found.items()}, None)
    problems = sum(len(check.problems) for check in found.values())
    if problems:
        raise DataError(f'{problems} problem{"s" * (problems > 1)} found')
