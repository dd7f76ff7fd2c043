"""
Measure what a model loses, and a further domain gains, where that is added to the model.

    univseg scenes worlds --labelled 100
    python benchmarks/further_domain.py CONFIG worlds/outdoor --steps 2000 --more 1000 \
        --rates 0.001

`base` learns the domains of the configuration. From its model, `added` goes on for `--more` steps
with the further domain and all that were there, once for each of `--rates`, and `continued` for as
many without it, at the first of the rates. `alone` is a network of the further domain's own, which
begins as base does and learns for `--more` steps. `joint` learns all domains from that beginning,
in as many steps as base and added together. The mIoU of each domain, in %. Runs are kept in --out,
and gone on with when the same command is given again.
"""

import argparse
from pathlib import Path

import torch
from univseg_core.settings.config import load_config, RunConfig
from univseg_core.training.run import train

FURTHER = 'further'
"""Name of the domain that is added."""


def main() -> None:
    """Run the trainings one after the other and print their table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[1],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('config', help='a configuration, of the domains that are there first')
    parser.add_argument('world', type=Path, help='folder of the further domain: classes.txt, '
                                                 'train/ and validation/, unlabelled/image')
    parser.add_argument('overrides', nargs='*', help='settings to change, KEY=VALUE')
    parser.add_argument('--steps', type=int, default=2000, help='of base')
    parser.add_argument('--more', type=int, default=1000, help='of added and continued')
    parser.add_argument('--rates', type=float, nargs='+', default=[0.001],
                        help='peak learning rates of added')
    parser.add_argument('--only', choices=('base', 'added', 'continued', 'alone', 'joint'),
                        help='run this one alone')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    parser.add_argument('--out', type=Path, default=Path('runs/further_domain'), help='the runs')
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.threads)
    config = load_config(options.config, options.overrides)

    start = options.out / 'base' / 'model.univseg'

    def run(name: str, steps: int, world: Path | None, start: Path | None, rate: float,
            folder: str, alone: bool = False) -> None:
        if options.only in (None, name):
            changed = _changed(config, steps, world, start, rate, alone)
            results = train(changed, options.out / folder)
            mious = ' | '.join(f'{100 * results[domain].miou:.2f}' if domain in results else ''
                               for domain in names)
            print(f'| {folder} | {mious} |', flush=True)

    names, usual = [*config.domains, FURTHER], config.training.learning_rate
    print(f'| run | {" | ".join(names)} |\n|---|' + '--:|' * len(names), flush=True)
    run('base', options.steps, None, None, usual, 'base')
    for rate in options.rates:
        run('added', options.more, options.world, start, rate, f'added_{rate:g}')
    run('continued', options.more, None, start, options.rates[0], 'continued')
    run('alone', options.more, options.world, None, usual, 'alone', alone=True)
    run('joint', options.steps + options.more, options.world, None, usual, 'joint')


def _changed(config: RunConfig, steps: int, world: Path | None, start: Path | None,
             rate: float, alone: bool) -> RunConfig:
    """Return a configuration with a further domain, a model to start from, other settings."""
    values = config.model_dump(mode='json')
    if world is not None:
        parts = {part: {'images': f'{world}/{part}/image', 'labels': f'{world}/{part}/label'}
                 for part in ('train', 'validation')}
        values['domains'][FURTHER] = {'classes': f'{world}/classes.txt', **parts,
                                      'unlabelled': [f'{world}/unlabelled/image']}
    if alone:
        values['domains'] = {FURTHER: values['domains'][FURTHER]}
    if start is not None:
        values['model']['start'] = str(start)
    values['training'] |= {'steps': steps, 'learning_rate': rate}
    return RunConfig.model_validate(values)


if __name__ == '__main__':
    main()
