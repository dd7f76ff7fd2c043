"""What docstrings and signatures say, read from the sources: nothing is imported."""

import ast
import re
from typing import Any

from tabled.markdown import code, ROOT, table

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
    'errors.py': ('UnivsegError',),
    'pictures/images.py': ('read_image', 'write_png'),
    'inference/segmenter.py': ('Segmenter', 'Segmentation', 'Request', 'Encoded'),
    'inference/batches.py': ('BatchTimes',),
    'models/domain_evidence.py': ('Recognition',),
    'models/model_card.py': ('ModelCard', 'ModelFileError'),
    'domains/__init__.py': ('Domain', 'DomainError'),
    'pictures/overlay.py': ('overlay', 'with_legend'),
    'settings/config.py': ('load_config',),
    'training/run.py': ('train',),
    'measuring/evaluation.py': ('DomainResult',),
    'settings/file.py': ('ConfigError',),
    'datasets/folders.py': ('DataError',),
    'pictures/picture_files.py': ('ImageError',),
    'training/safety.py': ('TrainingError',),
    'training/processes.py': ('EngineError',),
    'reporting/run_loggers.py': ('LoggerError',),
}
"""What programs of others may use, and what these raise, by its module."""


def api() -> str:
    """Return what programs of others may use: signatures and docstrings; errors in a table."""
    found, errors = [], []
    for path, names in PUBLIC.items():
        module = path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')
        for node in _tree(path).body:
            if not isinstance(node, Node) or node.name not in names:
                continue
            if node.name.endswith('Error'):
                text = ' '.join((ast.get_docstring(node) or '').split('\n\n')[0].split())
                errors.append((code(node.name), code(f'univseg_core.{module}'), text))
            else:
                head = f'from univseg_core.{module} import {node.name}\n\n{_shown(node)}'
                found.append(_documented(2, node.name, node, head))
                found += [_documented(3, f'{node.name}.{each.name}'.replace('.__call__', '(…)'),
                                      each, _shown(each)) for each in _methods(node)]
    found.append(f'## Errors\n\n{table("error,module,what", iter(errors))}')
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
    """Return the fields of a class or how it is made, or how a function is called."""
    if isinstance(node, ast.ClassDef):
        made = [_signature(each, node.name) for each in node.body
                if isinstance(each, ast.FunctionDef) and each.name == '__init__']
        return '\n'.join(made or [ast.unparse(field) for field in node.body
                                  if isinstance(field, ast.AnnAssign)])
    if any(ast.unparse(by) == 'property' for by in node.decorator_list):
        return f'{node.name}: {ast.unparse(node.returns)}'
    return _signature(node)


def _signature(node: ast.FunctionDef, name: str = '') -> str:
    """Return how a function is called, what it takes and returns, each argument in a line."""
    taken = [*node.args.args]
    defaults = [None] * (len(taken) - len(node.args.defaults)) + node.args.defaults
    pairs = [pair for pair in zip(taken, defaults, strict=True)
             if pair[0].arg not in ('self', 'cls')]
    parts = [_argument(*pair) for pair in pairs]
    if node.args.kwonlyargs:
        parts += ['*', *map(_argument, node.args.kwonlyargs, node.args.kw_defaults)]
    returned = f' -> {ast.unparse(node.returns)}' if node.returns else ''
    name = name or node.name
    line = f'{name}({", ".join(parts)}){returned}'
    if len(line) > 95:
        lines = ',\n    '.join(parts).replace('*,\n    ', '*, ')
        line = f'{name}(\n    {lines}\n){returned}'
    return line


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f': {ast.unparse(argument.annotation)}' if argument.annotation else ''
    return f'{argument.arg}{kind}' + (f' = {ast.unparse(default)}' if default else '')
