"""
Write the tables of the documentation that repeat what the code knows.

Each lies in a Markdown file between `<!-- generated: NAME -->` and `<!-- end -->`, and is made by
the function that CORE or, where it takes rclpy, ROS has under that name.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
import importlib.util
import re
import sys

from tabled import commands, core, ros, sources
from tabled.markdown import ROOT

EXAMPLES = """examples:
  python docs/tables.py                     write all tables anew
  python docs/tables.py --check             name those that the code has left behind
"""

MARKED = re.compile(r'(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)', re.DOTALL)

Tables = Mapping[str, Callable[[], str]]

CORE: Tables = {
    'configuration-keys': core.configuration_keys,
    'recipes': core.recipes,
    'experiments': core.experiments,
    'experiment-keys': core.experiment_keys,
    'variants': core.variants,
    'data-sets': core.layouts,
    'camvid-groups': core.camvid_groups,
    'encodings': core.encodings,
    'reasons': core.reasons,
    'limits': core.limits,
    'view-keys': core.view_keys,
    'states': core.states,
    'import-formats': core.import_formats,
    'checks': core.checks,
    'commands': commands.command_reference,
    'equations': sources.equations,
    'api': sources.api,
}
"""Tables of the core, by the names that stand in the pages."""

ROS: Tables = {
    'parameters': partial(ros.parameters, 'univseg_ros.parameters'),
    'recorder-parameters': partial(ros.parameters, 'univseg_ros.recorder_parameters'),
    'launch-arguments': partial(ros.launch_arguments, 'segmentation.launch.py'),
    'recorder-launch-arguments': partial(ros.launch_arguments, 'record.launch.py'),
    'topics': ros.topics,
    'recorder-topics': ros.recorder_topics,
    'outcomes': ros.outcomes,
    'executables': ros.executables,
    'services': ros.services,
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
