"""`univseg info`, `curves` and `config`: what there is, and what it means."""

import argparse
import json
from pathlib import Path
import shutil

from univseg_core.commands.options import add_config, Command

INFO_EXAMPLES = """examples:
  univseg info runs/first                     a training: how far, how good, time left
  univseg info runs/first/model.univseg       a model: its domains, classes, mIoU, making
  univseg info --json yard.univseg | jq .sha256
"""

CURVES_EXAMPLES = """examples:
  univseg curves runs/first                   writes runs/first/curves.png
  univseg curves runs/first/supervised/outdoor
"""

CONFIG_EXAMPLES = """examples:
  univseg config show my.yaml training.steps=500        all settings, with what they mean
  univseg config show runs/first/config.yaml > my.yaml  a configuration to start from
  univseg config explain                                a table of all keys
  univseg config explain training.learning_rate
"""


def add_to(command: Command) -> None:
    """Add the commands to the command line's grammar."""
    sub = command('info', _info, 'tell what a model file or a run folder holds', INFO_EXAMPLES)
    sub.add_argument('file', type=Path,
                     help='a model file (NAME.univseg), a run folder, the supervised/DOMAIN '
                          'folder of one, a checkpoint or label embeddings')
    sub.add_argument('--json', action='store_true', help='as JSON, for programs')

    sub = command('curves', _curves, "draw a training's losses and mIoUs, also while it runs",
                  CURVES_EXAMPLES)
    sub.add_argument('folder', type=Path, help='a run folder; its curves.png is written')

    sub = command('config', None, 'show or explain the settings of a configuration',
                  CONFIG_EXAMPLES)
    parts = sub.add_subparsers(dest='part', required=True, metavar='show|explain')
    sub = command('show', _config_show, 'print the whole checked configuration as YAML, every '
                  'default filled in and every key explained', CONFIG_EXAMPLES, parts)
    add_config(sub)
    sub = command('explain', _config_explain, 'tell what each key means, which values it takes '
                  'and its default', CONFIG_EXAMPLES, parts)
    sub.add_argument('key', nargs='?', help='a key or section, such as training.steps or data; '
                                            'all when left out')


def _info(options: argparse.Namespace) -> None:
    from univseg_core.reporting.description import describe
    from univseg_core.reporting.description_text import as_text

    description = describe(options.file)
    print(json.dumps(description, indent=1, ensure_ascii=False) if options.json
          else as_text(description))


def _curves(options: argparse.Namespace) -> None:
    from univseg_core.reporting.plots.curves import draw_curves

    print(draw_curves(options.folder))


def _config_show(options: argparse.Namespace) -> None:
    from univseg_core.settings.config import load_config
    from univseg_core.settings.explanation import annotated_yaml

    print(annotated_yaml(load_config(options.config, options.overrides)), end='')


def _config_explain(options: argparse.Namespace) -> None:
    from univseg_core.settings.explanation import explain

    print(explain(options.key, shutil.get_terminal_size((120, 24)).columns))
