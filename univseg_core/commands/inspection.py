"""`univseg info`, `curves` and `config`: what there is, and what it means."""

import argparse
from pathlib import Path
import shutil

from univseg_core.commands.options import add_config, add_model, Command, named_once
from univseg_core.commands.output import in_ascii, prints_unicode, report

INFO_EXAMPLES = """examples:
  univseg info runs/first                     a training: how far, how good, time left
  univseg info runs/first/model.univseg       a model: its domains, classes, mIoU, making
  univseg info --json yard.univseg | jq .sha256
"""

CURVES_EXAMPLES = """examples:
  univseg curves runs/first                   writes runs/first/curves.png
  univseg curves runs/first/supervised/outdoor
"""

SHOW_EXAMPLES = """\
  univseg config show my.yaml training.steps=500        all settings, with what they mean
  univseg config show runs/first/config.yaml > my.yaml  a configuration to start from
"""

EXPLAIN_EXAMPLES = """\
  univseg config explain                                a table of all keys
  univseg config explain training.learning_rate
"""


def add_to(command: Command) -> None:
    """Add the commands to the command line's grammar."""
    sub = command('info', _info, 'tell what a model file or a run folder holds', INFO_EXAMPLES)
    sub.add_argument('file', nargs='?', type=Path, metavar='FILE',
                     help='a model file (NAME.univseg), an exported one (NAME.onnx), demo, the '
                          'small model that ships, a run folder, the supervised/DOMAIN folder of '
                          'one, a checkpoint or label embeddings; a model may be named with '
                          '--model')
    add_model(sub)

    sub = command('curves', _curves, "draw a training's losses and mIoUs, also while it runs",
                  CURVES_EXAMPLES)
    sub.add_argument('folder', type=Path, metavar='RUN',
                     help='a run folder; its curves.png is written')

    sub = command('config', None, 'show or explain the settings of a configuration',
                  f'examples:\n{SHOW_EXAMPLES}{EXPLAIN_EXAMPLES}')
    parts = sub.add_subparsers(dest='part', required=True, metavar='show|explain')
    sub = command('show', _config_show, 'print the whole checked configuration as YAML, every '
                  'default filled in and every key explained', f'examples:\n{SHOW_EXAMPLES}',
                  parts)
    add_config(sub)
    sub = command('explain', _config_explain, 'tell what each key means, which values it takes '
                  'and its default', f'examples:\n{EXPLAIN_EXAMPLES}', parts)
    sub.add_argument('key', nargs='?', metavar='KEY',
                     help='a key or section, such as training.steps or data; all when left out')


def _info(options: argparse.Namespace) -> None:
    from univseg_core.inference.model_names import DEMO, model_file
    from univseg_core.reporting.description import describe
    from univseg_core.reporting.description_text import as_text

    named = named_once(options, 'file')
    description = describe(model_file(named) if named == Path(DEMO) else named)
    report(options, description, as_text(description))


def _curves(options: argparse.Namespace) -> None:
    from univseg_core.reporting.plots.curves import draw_curves

    path = str(draw_curves(options.folder))
    report(options, {'files': [path]}, path)


def _config_show(options: argparse.Namespace) -> None:
    from univseg_core.settings.config import load_config
    from univseg_core.settings.explanation import annotated_yaml

    config = load_config(options.config, options.overrides)
    # It may become a file, which is read as UTF-8: values are escaped, comments spelt out.
    text = annotated_yaml(config) if prints_unicode() else in_ascii(
        annotated_yaml(config, ascii_values=True))
    report(options, config.model_dump(mode='json'), text.rstrip('\n'))


def _config_explain(options: argparse.Namespace) -> None:
    from univseg_core.settings.explanation import explain, keys_of

    report(options, [key._asdict() for key in keys_of(options.key)],
           explain(options.key, shutil.get_terminal_size((120, 24)).columns))
