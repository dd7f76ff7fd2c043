"""Tables of what the core has tables of itself: settings, data sets, limits, checks."""

from collections.abc import Iterator, Mapping
from pathlib import Path
import re
import textwrap

from tabled.markdown import code, ROOT, table


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


def view_keys() -> str:
    """Return the keys of the page that shows a model."""
    from univseg_core.viewing.keys import KEYS
    return table('key,what it does', ((' '.join(map(code, key.shown.split())), key.meaning)
                                      for key in KEYS))
