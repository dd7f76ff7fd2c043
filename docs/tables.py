"""
Write the tables of the documentation that repeat what the code knows.

Each lies in a Markdown file between `<!-- generated: NAME -->` and `<!-- end -->`, and is made by
the function of that name in CORE or, where it takes rclpy, in ROS.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
import importlib.util
from pathlib import Path
import re
import runpy
import sys
import tempfile
import textwrap
from typing import Any
from unittest.mock import MagicMock, patch

EXAMPLES = """examples:
  python docs/tables.py                     write all tables anew
  python docs/tables.py --check             name those that the code has left behind
"""

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r'(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)', re.DOTALL)

Tables = Mapping[str, Callable[[], str]]


def table(head: str, rows: Iterator[tuple[str, ...]]) -> str:
    """Return a Markdown table; the columns of `head` are separated by commas."""
    titles = head.split(',')
    lines = [titles, ['---'] * len(titles),
             *([cell.replace('|', r'\|') for cell in row] for row in rows)]
    return ''.join(f'| {" | ".join(cells)} |\n' for cells in lines)


def code(value: object) -> str:
    """Return a value as it is written in a YAML file, nothing for an empty one."""
    if value in ('', None):
        return ''
    return f'`{str(value).lower() if isinstance(value, bool) else value}`'


def configuration_keys() -> str:
    """Return every key of a training configuration."""
    from univseg_core.settings.explanation import all_keys, REQUIRED
    return table('key,values,default,meaning', (
        (code(key.name), key.values.removesuffix(', or null'),
         key.default if key.default == REQUIRED else code(key.default).replace('`null`', ''),
         key.meaning) for key in all_keys()))


def limits() -> str:
    """Return what files may cost."""
    from univseg_core.files.limits import LIMITS
    return table('variable,default,the limit of', (
        (code(limit.variable), f'{limit.default} {limit.unit}', limit.meaning)
        for limit in LIMITS))


def states() -> str:
    """Return what the decision on a camera's domain can be."""
    from univseg_core.inference.domain_decision import STATES
    return table('state,', ((code(name), text) for name, text in STATES.items()))


def experiment_keys() -> str:
    """Return every key of an experiment's file."""
    from univseg_core.research.settings import ExperimentSection
    return table('key,default,meaning', (
        (code(name), 'required' if field.is_required() else code(field.default),
         field.description or '') for name, field in ExperimentSection.model_fields.items()))


def _heads(folder: str) -> Iterator[tuple[Path, str]]:
    """Yield the files of a folder of config/, and the first sentence of each one's head."""
    for file in sorted((ROOT / 'config' / folder).glob('*.yaml')):
        head = re.match(r'(# \S.*\n)+', file.read_text(encoding='utf-8'))
        assert head is not None, f'{file}: expected a comment that tells what it is'
        text = ' '.join(line.removeprefix('# ') for line in head[0].splitlines())
        yield file, text.split('. ')[0].rstrip('.:')


def recipes() -> str:
    """Return the training configurations that ship, with the first sentence of each."""
    return table('name,what', ((code(f'train/{file.name}'), text)
                               for file, text in _heads('train')))


def experiments() -> str:
    """Return the experiments that ship, with the first sentence of each."""
    from univseg_core.research.settings import load_experiment

    def row(file: Path, text: str) -> tuple[str, ...]:
        section = load_experiment(str(file)).section
        return (code(file.stem), text, ', '.join(map(str, section.labelled)),
                ', '.join(map(str, section.seeds)))

    return table('name,what,N,seeds', (row(*head) for head in _heads('experiments')))


def variants() -> str:
    """Return the forms of training that experiments compare."""
    from univseg_core.research.variants import VARIANTS
    return table('variant,what it trains', (
        (code(variant.name), variant.text) for variant in VARIANTS.values()))


def layouts() -> str:
    """Return the published data sets that can be read."""
    from univseg_core.datasets.layouts import LAYOUTS

    def images(counts: Mapping[str, tuple[int, ...]], part: str) -> str:
        return ' or '.join(map(str, counts[part]))

    return table('`dataset`,classes,`train`,held out,`extra: true` adds', (
        (code(name), str(len(layout.classes)), images(layout.counts, 'train'),
         '; '.join(f'`{part}` {images(layout.counts, part)}' for part in layout.held_out),
         images(layout.counts, 'extra') if layout.extra else '')
        for name, layout in LAYOUTS.items()))


def camvid_groups() -> str:
    """Return which of CamVid's 32 classes each of the 11 groups."""
    from univseg_core.datasets.layouts.camvid import COLOURS
    return table('class,groups', ((name, ', '.join(colours))
                                  for name, colours in COLOURS.items()))


def encodings() -> str:
    """Return the encodings of raw images that can be decoded."""
    from univseg_core.pictures.encodings import ENCODINGS
    return textwrap.fill(', '.join(ENCODINGS), 99) + '\n'


def reasons() -> str:
    """Return why a recorder does not keep an image."""
    from univseg_core.recording.recorder import REASONS
    return table('why not,', ((code(name), text) for name, text in REASONS.items()))


def import_formats() -> str:
    """Return what labels are brought in from."""
    from univseg_core.labelling.import_sources import sources
    return table('format,what', ((code(name), says) for name, says in sources().items()))


def _options(command: str) -> str:
    """Return the options of a command of univseg."""
    from univseg_core.cli import parser
    commands = next(action.choices for action in parser()._actions
                    if isinstance(action, argparse._SubParsersAction))
    return table('option,what', (
        (code(f'{action.option_strings[-1]} {_value(action)}'.strip()), action.help or '')
        for action in commands[command]._actions
        if action.option_strings and action.dest != 'help'))


def _value(action: argparse.Action) -> str:
    """Return what stands behind an option."""
    if action.nargs == 0:
        return ''
    choices = f'{{{",".join(action.choices)}}}' if action.choices else action.dest.upper()
    return str(action.metavar or choices)


def _parameters(module: str) -> str:
    """Return a node's parameters."""
    from univseg_ros.parameter_table import CHANGES, values
    specs = importlib.import_module(module).PARAMETERS
    return table('parameter,values,default,can be set,meaning', (
        (code(name), values(spec), code(spec.default),
         re.sub('^(Can be set|Read) ', '', CHANGES[spec.changes]).rstrip('.'), spec.description)
        for name, spec in specs.items()))


def _launch_arguments(file: str) -> str:
    """Return the arguments of a launch file, which are read where there is no ros2 launch, too."""
    importlib.import_module('univseg_ros.parameters')  # and rclpy, which stay when launch goes
    launch = ('launch', 'launch.actions', 'launch.substitutions', 'launch_ros',
              'launch_ros.actions', 'ament_index_python')
    with patch.dict(sys.modules, {name: MagicMock() for name in launch}):
        arguments = runpy.run_path(str(ROOT / 'launch' / file))['ARGUMENTS']
    return table('argument,default,meaning', (
        (code(name), code(default.removeprefix(f'{ROOT}/')), text)
        for name, default, text in arguments))


def outcomes() -> str:
    """Return what a frame that came to the segmentation node can come to."""
    from univseg_ros.statistics import OUTCOMES
    return table('count,', ((code(name), text) for name, text in OUTCOMES.items()))


def topics() -> str:
    """Return what the segmentation node publishes, read off one that runs."""
    from rclpy.parameter import Parameter
    from univseg_core.domains import Domain
    from univseg_core.models.model_file import ModelCard, save_model
    from univseg_core.models.universal import ModelSpec, UniversalSegmenter
    from univseg_ros.segmentation_node import SegmentationNode
    model = UniversalSegmenter(ModelSpec('light', width=1 / 16, embedding_dim=4),
                               [Domain.create('domain', ['class'])])
    with tempfile.TemporaryDirectory() as folder, _running(SegmentationNode) as node:
        save_model(path := Path(folder) / 'a.univseg', model, ModelCard())
        node.set_parameters([Parameter('model', value=str(path)),
                             Parameter('traversable', value=['class'])])
        node.trigger_configure()
        return _published(node)


def recorder_topics() -> str:
    """Return what the recorder publishes, read off one that runs."""
    from univseg_ros.bag_recorder import BagRecorder
    with _running(BagRecorder) as node:
        return _published(node)


@contextmanager
def _running(kind: Callable[[], Any]) -> Iterator[Any]:
    """Return a node, which is destroyed at the end, and ROS ended where it began here."""
    import rclpy
    begins = not rclpy.ok()
    if begins:
        rclpy.init()
    node = kind()
    try:
        yield node
    finally:
        node.destroy_node()
        if begins:
            rclpy.shutdown()


def _published(node: Any) -> str:
    """Return the topics of a node's publishers, with their types and QoS."""
    def row(publisher: Any) -> tuple[str, ...]:
        name = publisher.topic_name.replace(node.get_fully_qualified_name(), '~')
        package, _, _ = publisher.msg_type.__module__.partition('.')
        qos = publisher.qos_profile
        words = (qos.reliability.name, qos.durability.name, f'depth {qos.depth}')
        return (code(name.replace('/domain/', '/DOMAIN/')),
                f'{package}/{publisher.msg_type.__name__}',
                ', '.join(words).lower().replace('_', ' '))

    # Every node has the former; the latter has none without vision_msgs, which the page tells.
    return table('topic,type,QoS', (row(publisher) for publisher in node.publishers if
                 not publisher.topic_name.endswith(('/parameter_events', '/label_info'))))


def view_keys() -> str:
    """Return the keys of the page that shows a model."""
    from univseg_core.viewing.keys import KEYS
    return table('key, what it does', ((' '.join(map(code, key.shown.split())), key.meaning)
                                       for key in KEYS))


CORE: Tables = {
    'configuration-keys': configuration_keys,
    'recipes': recipes,
    'experiments': experiments,
    'experiment-keys': experiment_keys,
    'variants': variants,
    'data-sets': layouts,
    'camvid-groups': camvid_groups,
    'encodings': encodings,
    'reasons': reasons,
    'limits': limits,
    'view-keys': view_keys,
    'states': states,
    'import-formats': import_formats,
    'frames-options': partial(_options, 'frames'),
}
"""Tables of the core, by the names that stand in the pages."""

ROS: Tables = {
    'parameters': partial(_parameters, 'univseg_ros.parameters'),
    'recorder-parameters': partial(_parameters, 'univseg_ros.recorder_parameters'),
    'launch-arguments': partial(_launch_arguments, 'segmentation.launch.py'),
    'recorder-launch-arguments': partial(_launch_arguments, 'record.launch.py'),
    'topics': topics,
    'recorder-topics': recorder_topics,
    'outcomes': outcomes,
}
"""Those of the ROS package."""


def stale(tables: Tables, write: bool = False) -> list[str]:
    """Return which tables are not as the code is, each with its page; `write` mends them."""
    found, unplaced = [], set(tables)
    for page in sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md')]):
        text = new = page.read_text(encoding='utf-8')
        for marker, name, _ in MARKED.findall(text):
            assert name in CORE or name in ROS, f'{page}: there is no table {name}'
            if name in tables:
                unplaced.discard(name)
                made = f'{marker}{tables[name]()}<!-- end -->'
                if made not in new:
                    found.append(f'{page.relative_to(ROOT)}: {name}')
                    new = MARKED.sub(lambda m, name=name, made=made:
                                     made if m[2] == name else m[0], new)
        if write and new != text:
            page.write_text(new, encoding='utf-8')
    return found + [f'{name}: stands in no page' for name in sorted(unplaced)]


def main() -> int:
    """Write or check the tables; return 1 where one is stale."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true',
                        help='write nothing; name the tables that differ, and exit with 1')
    options = parser.parse_args()
    tables = {**CORE, **(ROS if importlib.util.find_spec('rclpy') else {})}
    if len(tables) == len(CORE):
        print(f'without rclpy, these are left as they are: {", ".join(ROS)}')
    for name in (found := stale(tables, write=not options.check)):
        print(f'{"stale" if options.check else "written"}: {name}')
    return 1 if found and options.check else 0


if __name__ == '__main__':
    sys.exit(main())
