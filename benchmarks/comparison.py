"""
Compare the demo's universal model with what it must beat: `make comparison`, after `make demo`.

    python benchmarks/comparison.py --demo demo_output

On the same worlds and labels: a random forest on colour and location, and a network for each
world alone, trained as the universal one is, for as many steps. All go on where they were stopped.
"""

import argparse
from collections.abc import Sequence
import json
import logging
import os
from pathlib import Path
import sys

from univseg_core.batches.dataset import load_data
from univseg_core.files import write_text
from univseg_core.measuring.baselines import random_forest
from univseg_core.measuring.evaluation import table
from univseg_core.settings.config import load_config
from univseg_core.training.run import train


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, and print the table; return 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--demo', type=Path, default=Path('demo_output'),
                        help="the demo's folder (default: %(default)s)")
    demo = parser.parse_args(arguments).demo
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    if not (demo / 'run' / 'evaluation.json').exists():
        print(f'{demo}: no finished demo: run `make demo` first', file=sys.stderr)
        return 1
    os.environ['UNIVSEG_DATA'] = str(demo / 'worlds')
    config = load_config(demo / 'run' / 'config.yaml')
    measured = json.loads((demo / 'run' / 'evaluation.json').read_text(encoding='utf-8'))
    rows = {'random forest on colour and location': [
                random_forest(data, config.data.image_size).miou
                for data in load_data(config).values()],
            f'a network for each world alone, {config.training.steps} steps each': [
                train(config.model_copy(update={'domains': {name: section}}),
                      demo / 'alone' / name)[name].miou
                for name, section in config.domains.items()],
            f'**the universal model**, one for both, {config.training.steps} steps': [
                measured[name]['miou'] for name in config.domains]}
    compared = table(rows, list(config.domains))
    write_text(demo / 'comparison.md', compared + '\n')
    print(compared)
    return 0


if __name__ == '__main__':
    sys.exit(main())
