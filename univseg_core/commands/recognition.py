"""`univseg recognise`: evidence of its domains for a model file that has none."""

import argparse
from dataclasses import replace
from pathlib import Path

from univseg_core.commands.options import (
    add_model,
    add_running,
    Command,
    model_file,
    MODELS,
    named_once,
    running,
)
from univseg_core.commands.output import report
from univseg_core.errors import did_you_mean, UnivsegError

EXAMPLES = """examples:
  univseg recognise runs/first --out first.univseg         by the images of the run's config.yaml
  univseg recognise yard.univseg --config my.yaml --out yard_2.univseg
  univseg recognise yard.univseg --images outdoor=frames/yard --images indoor=frames/hall \\
    --out yard_2.univseg                                   by images of your own, or a bag's
  univseg recognise yard_int8.onnx --config my.yaml --out yard_int8_2.onnx

Every training writes such evidence into its model file; this adds it to an older one, or makes it
anew of other images: of each domain 20 or more, better 200, without labels. The robot then knows
by each image which domain it is in, and when it is in none of them: `active_domains: ['auto']` of
the node, `univseg predict --domain auto`. Networks and heads stay as they are.
"""


def add_to(command: Command) -> None:
    """Add the command to the command line's grammar."""
    sub = command('recognise', _recognise, 'let a model file know its domains, and what is none '
                  'of them, by images of each', EXAMPLES)
    sub.add_argument('file', nargs='?', type=Path, metavar='FILE',
                     help=f'{MODELS}; it may be named with --model')
    add_model(sub)
    sub.add_argument('--config', metavar='CONFIG',
                     help='the configuration whose training images, labelled or not, are looked '
                          'at (default: that of the run folder that the model file is in, unless '
                          'there are --images)')
    sub.add_argument('--images', action='append', default=[], metavar='NAME=FOLDER',
                     help='look at a folder of images, or a bag (BAG or BAG:TOPIC), of a domain; '
                          'may be repeated; those of --config of this domain are then left out')
    sub.add_argument('--out', type=Path, required=True, metavar='NEW',
                     help='the file to write: all that FILE has, with the evidence')
    add_running(sub, 'or else fp32')


def _recognise(options: argparse.Namespace) -> None:
    from univseg_core.inference.segmenter import load_network, Segmenter
    from univseg_core.method.domain_evidence_fit import make_evidence
    from univseg_core.models.exported_file import ExportedModel, save_exported

    source = model_file(named_once(options, 'file'), options.backend)
    network, card = load_network(source)
    exported = network if isinstance(network, ExportedModel) else None
    if options.out.is_dir():
        raise UnivsegError(f'{options.out}: a folder; expected the name of a file')
    if (options.out.suffix == '.onnx') != (exported is not None):
        raise UnivsegError(f'{options.out}: expected a name that ends in '
                           f'{".onnx" if exported else ".univseg"}, as {source} does')
    images = _images(options, source, list(network.domains))
    asked = running(options)
    if asked['precision'] == 'auto' and exported is None:
        asked['precision'] = 'fp32'
    segmenter = Segmenter(network, card, **asked)
    fitted = make_evidence(segmenter, images)
    if isinstance(network, ExportedModel):
        save_exported(options.out, replace(network, evidence=fitted.evidence), card)
    else:
        from univseg_core.models.model_file import save_model
        network.evidence = fitted.evidence
        save_model(options.out, network, card)
    report(options, {'file': str(options.out), **fitted.to_dict()},
           f'{options.out}: {source}, which knows its domains now: {fitted.text()}')


def _images(options: argparse.Namespace, source: Path, domains: list[str]
            ) -> dict[str, list[Path]]:
    """Return images of each domain; raise UnivsegError for one that has none."""
    from univseg_core.batches.dataset import load_data
    from univseg_core.batches.splits import splits_beside
    from univseg_core.datasets.unlabelled import unlabelled_samples
    from univseg_core.settings.config import load_config

    given: dict[str, list[Path]] = {}
    for text in options.images:
        name, _, folder = text.partition('=')
        if not folder:
            raise UnivsegError(f'--images {text}: expected NAME=FOLDER, such as '
                               f'{domains[0]}=frames/')
        if name not in domains:
            raise UnivsegError(f'--images {text}: the model has no domain {name}, but '
                               f'{", ".join(domains)}{did_you_mean(name, domains)}')
        given.setdefault(name, []).append(Path(folder))
    images = {name: [each.image for each in unlabelled_samples(folders)]
              for name, folders in given.items()}
    beside = source.parent / 'config.yaml'
    config = options.config or (str(beside) if beside.is_file() and not given else None)
    if config:
        data = load_data(load_config(config, files_needed=False), splits_beside(config))
        images = {name: each.training_images for name, each in data.items()} | images
    if missing := [name for name in domains if name not in images]:
        raise UnivsegError(
            f'no images of {", ".join(missing)}: name folders of them with --images '
            f'{missing[0]}=FOLDER, or with --config a configuration that has the domain')
    return images
