"""
Write the tables of the documentation that repeat what the code knows.

Each lies in a Markdown file between `<!-- generated: NAME -->` and `<!-- end -->`, and is made by
the function of that name in CORE or, where it takes rclpy, in ROS.
"""

import argparse
import ast
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
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if '|' in text:  # which ends a cell of a table, in backticks too
        return f'<code>{text.replace("|", "&#124;")}</code>'
    return f'`{text}`'


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


Node = ast.FunctionDef | ast.ClassDef


def _tree(module: str) -> ast.Module:
    """Return the source of a module of univseg_core, by its path in it."""
    return ast.parse((ROOT / 'univseg_core' / module).read_text(encoding='utf-8'))


def equations() -> str:
    """Return which function is which equation of the paper, by what docstrings say."""
    rows = []
    for path in sorted((ROOT / 'univseg_core').glob('m[eo]*/*.py')):  # method, models
        module = str(path.relative_to(ROOT / 'univseg_core'))
        for node in _tree(module).body:
            text = ' '.join((ast.get_docstring(node) or '').split()) if isinstance(
                node, Node) else ''
            if found := re.search(r'\((Eq [\d, ]+)\)', text):
                rows.append((found[1], code(node.name), code(module),
                             text.split('. ')[0].removeprefix('Return ').rstrip('.')))
    return table('equation,function,module,what', iter(sorted(rows)))


PUBLIC = {
    'pictures/images.py': ('read_image', 'write_png'),
    'inference/segmenter.py': ('Segmenter', 'Segmentation', 'Encoded'),
    'models/domain_evidence.py': ('Recognition',),
    'domains/__init__.py': ('Domain',),
    'pictures/overlay.py': ('overlay', 'with_legend'),
    'settings/config.py': ('load_config',),
    'training/run.py': ('train',),
}
"""What programs of others may use, by its module."""


def api() -> str:
    """Return what programs of others may use: signatures and docstrings."""
    found = []
    for path, names in PUBLIC.items():
        module = path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')
        for node in _tree(path).body:
            if isinstance(node, Node) and node.name in names:
                code = f'from univseg_core.{module} import {node.name}\n\n{_shown(node)}'
                found.append(_documented(2, node.name, node, code))
                found += [_documented(3, f'{node.name}.{each.name}'.replace('.__call__', '(…)'),
                                      each, _shown(each)) for each in _methods(node)]
    return '\n' + '\n'.join(found) + '\n'


def _methods(node: ast.stmt) -> list[ast.FunctionDef]:
    """Return the public methods and properties of a class; none of a function."""
    return [each for each in node.body if isinstance(each, ast.FunctionDef) and (
        each.name == '__call__' or not each.name.startswith('_'))
        and not any(ast.unparse(by).endswith('.setter') for by in each.decorator_list)
            ] if isinstance(node, ast.ClassDef) else []


def _documented(level: int, title: str, node: Any, shown: str) -> str:
    text = (ast.get_docstring(node) or '').strip()
    return f'{"#" * level} {title}\n\n```py\n{shown.strip()}\n```\n\n{text}\n'


def _shown(node: Any) -> str:
    """Return the fields of a class, or how a function is called."""
    if isinstance(node, ast.ClassDef):
        return '\n'.join(ast.unparse(field) for field in node.body
                         if isinstance(field, ast.AnnAssign))
    if any(ast.unparse(by) == 'property' for by in node.decorator_list):
        return f'{node.name}: {ast.unparse(node.returns)}'
    return _signature(node)


def _signature(node: ast.FunctionDef) -> str:
    """Return how a function is called, what it takes and returns, each argument in a line."""
    taken = [*node.args.args]
    defaults = [None] * (len(taken) - len(node.args.defaults)) + node.args.defaults
    pairs = [pair for pair in zip(taken, defaults, strict=True)
             if pair[0].arg not in ('self', 'cls')]
    parts = [_argument(*pair) for pair in pairs]
    if node.args.kwonlyargs:
        parts += ['*', *map(_argument, node.args.kwonlyargs, node.args.kw_defaults)]
    returned = f' -> {ast.unparse(node.returns)}' if node.returns else ''
    line = f'{node.name}({", ".join(parts)}){returned}'
    if len(line) > 95:
        lines = ',\n    '.join(parts).replace('*,\n    ', '*, ')
        line = f'{node.name}(\n    {lines}\n){returned}'
    return line


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f': {ast.unparse(argument.annotation)}' if argument.annotation else ''
    return f'{argument.arg}{kind}' + (f' = {ast.unparse(default)}' if default else '')


def reasons() -> str:
    """Return why a recorder does not keep an image."""
    from univseg_core.recording.recorder import REASONS
    return table('why not,', ((code(name), text) for name, text in REASONS.items()))


def checks() -> str:
    """Return what `univseg doctor` looks at."""
    from univseg_core.doctor.examination import CHECKS
    return table('check,looks at,needed for', (
        (check.name, check.looks_at, ' and '.join(
            {'training': 'a training', 'node': 'the node'}[each] for each in check.needed_for))
        for check in CHECKS))


def import_formats() -> str:
    """Return what labels are brought in from."""
    from univseg_core.labelling.import_sources import sources
    return table('format,what', ((code(name), says) for name, says in sources().items()))


def _commands(grammar: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the commands of a grammar, by name; none where it has none."""
    return next((action.choices for action in grammar._actions
                 if isinstance(action, argparse._SubParsersAction)), {})


def _options(command: str) -> str:
    """Return the options of a command of univseg."""
    from univseg_core.cli import parser
    return table('option,what', (
        (code(f'{action.option_strings[-1]} {_value(action)}'.strip()), action.help or '')
        for action in _commands(parser())[command]._actions
        if action.option_strings and action.dest != 'help'))


def _value(action: argparse.Action) -> str:
    """Return what stands behind an option."""
    if action.nargs == 0:
        return ''
    choices = f'{{{",".join(action.choices)}}}' if action.choices else action.dest.upper()
    return str(action.metavar or choices)


COMMON = ('help', 'json', 'quiet', 'verbose')
"""What every command takes."""


def command_reference() -> str:
    """Return a section for each command of univseg, by what it is for: options, and examples."""
    from univseg_core.cli import JOBS, parser
    commands = _commands(parser())
    assert sorted(commands) == sorted(name for names in JOBS.values() for name in names)
    return '\n' + '\n'.join(
        f'## {job.capitalize()}\n\n' + '\n'.join(
            _command(3, name, commands[name]) for name in names)
        for job, names in JOBS.items()) + '\n'


def _command(level: int, name: str, grammar: argparse.ArgumentParser) -> str:
    """Return the section of a command, and below it those of the commands that it has."""
    text = f'{"#" * level} {name}\n\n{grammar.description}\n'
    if commands := _commands(grammar):
        return '\n'.join([text, *(_command(level + 1, f'{name} {each}', sub)
                                  for each, sub in commands.items())])
    rows = [(code(' '.join(filter(None, (', '.join(action.option_strings), _value(action))))),
             _required(action) + (action.help or '').replace('%%', '%'))
            for action in grammar._actions if action.dest not in COMMON]
    examples = (grammar.epilog or '').partition('examples:\n')[2].partition('\n\n')[0]
    return (f'{text}\n{table("argument or option,what", iter(rows))}'
            f'\n```sh\n{_with_comments(examples)}```\n')


def _required(action: argparse.Action) -> str:
    return 'required: ' if action.option_strings and action.required else ''


def _with_comments(examples: str) -> str:
    """Return examples as a shell reads them: what stands beside them are comments."""
    lines = []
    for line in filter(None, map(str.rstrip, textwrap.dedent(examples).splitlines())):
        command, gap, note = re.fullmatch(r'( {,9}\S.*?|)(?:( {2,})(?:# )?(\S.*))?', line).groups()
        lines.append(f'{command}{gap}# {note}\n' if note else f'{line}\n')
    return ''.join(lines)


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
    with _segmenting() as node:
        return _published(node)


@contextmanager
def _segmenting() -> Iterator[Any]:
    """Return a segmentation node that has a model with the domain `domain`."""
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
        yield node


def recorder_topics() -> str:
    """Return what the recorder publishes, read off one that runs."""
    from univseg_ros.bag_recorder import BagRecorder
    with _running(BagRecorder) as node:
        return _published(node)


def services() -> str:
    """Return the services of the nodes that are their own, read off nodes that run."""
    from univseg_ros.bag_recorder import BagRecorder
    with _segmenting() as segmenter, _running(BagRecorder) as recorder:
        return table('node,service,type', (
            (code(node.get_name()), code(name), kind)
            for node in (segmenter, recorder) for name, kind in _served(node)))


def _served(node: Any) -> Iterator[tuple[str, str]]:
    """Yield the services of a node that not every node, or every lifecycle node, has."""
    for service in node.services:
        package, _, _ = service.srv_type.__module__.partition('.')
        if package not in ('rcl_interfaces', 'lifecycle_msgs', 'type_description_interfaces'):
            name = service.srv_name.replace(node.get_fully_qualified_name(), '~')
            yield (name.replace('/domain/', '/DOMAIN/'),
                   f'{package}/{service.srv_type.__name__}')


def executables() -> str:
    """Return the programs of the ROS package that a user starts, with the first word on each."""
    setup = (ROOT / 'setup.py').read_text(encoding='utf-8')
    rows = []
    for name in re.findall(r"'(\w+) = univseg_ros\.start:", setup):
        text = importlib.import_module(f'univseg_ros.{name}').__doc__ or ''
        rows.append((code(name), ' '.join(text.split('\n\n')[0].split()).rstrip('.')))
    return table('executable,what', iter(rows))


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
    'checks': checks,
    'frames-options': partial(_options, 'frames'),
    'commands': command_reference,
    'equations': equations,
    'api': api,
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
    'executables': executables,
    'services': services,
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
