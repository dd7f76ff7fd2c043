"""The descriptions of description.py as text for reading."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
import textwrap
from typing import Any

WIDTH = 99
NOT_OF_THE_LAST_ROW = ('step', 'seconds_per_step', 'images_per_second')
"""Columns of log.csv that are told above it; the speed of one row alone says little."""

SECTIONS = ('model', 'data', 'objective', 'label_embeddings', 'training')


def as_text(description: Mapping[str, Any]) -> str:
    """Return a description of `describe`, for reading."""
    write = {'model': _model, 'exported model': _exported, 'checkpoint': _checkpoint, 'run': _run,
             'label embeddings': _label_embeddings}[description['kind']]
    return '\n'.join(write(description))


def _model(model: Mapping[str, Any]) -> Iterable[str]:
    yield f'{model["path"]}: a model, format {model["format_version"]}'
    yield from _facts({
        'encoder': _encoder(model),
        'began with': _began_with(model['began_with']),
        'parameters': f'{model["parameters"]:,}',
        'images': _images(model),
        'recognises': _recognises(model),
        'size': _bytes(model['bytes']),
        'SHA-256': model['sha256'],
    })
    yield from _label_spaces(model)


def _exported(model: Mapping[str, Any]) -> Iterable[str]:
    yield (f'{model["path"]}: a model as an ONNX network, made for {model["target"]}, in '
           f'{model["precision"]}')
    yield from _facts({
        'encoder': _encoder(model),
        'began with': _began_with(model['began_with']),
        'images': _images(model),
        'recognises': _recognises(model),
        'sizes': ('any' if model['size'] is None else
                  f'{model["size"][1]}×{model["size"][0]} alone'),
        'calibrated with': (f'{model["calibration"]["frames"]} images'
                            if model['calibration'] else ''),
        'size': _bytes(model['bytes']),
        'SHA-256': model['sha256'],
        'made of': model['made_of'],
    })
    yield from compared(model['compared'])
    yield from _label_spaces(model)


def compared(found: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Yield lines of how an export compares with its original, by runtime and domain."""
    for runtime, domains in found.items():
        yield f'\nbeside the model it was made of, by {runtime}'
        yield from _facts({name: _beside(result) for name, result in domains.items()})


def _beside(result: Mapping[str, Any]) -> str:
    text = (f'{100 * result["equal_pixels"]:.3f} % of the pixels of {result["images"]} images '
            'are equal')
    if 'miou' in result:
        text += f', mIoU {" → ".join(map(_percent, result["miou"]))}'
    return text


def _encoder(model: Mapping[str, Any]) -> str:
    return (f'{model["encoder"]}, width {model["width"]:g}, features at stride '
            f'{model["stride"]}, embeddings of {model["embedding_dim"]} dimensions')


def _images(model: Mapping[str, Any]) -> str:
    size = model['image_size']
    return 'as they come' if size is None else f'scaled to {size} pixels, longest side'


def _recognises(model: Mapping[str, Any]) -> str:
    if not model['recognises']:
        return 'nothing: it has no evidence of its domains (`univseg recognise` adds it)'
    return f'images of {", ".join(model["domains"])}, and of none of these'


def _label_spaces(model: Mapping[str, Any]) -> Iterable[str]:
    for name, domain in model['domains'].items():
        yield f'\n{name}'
        yield from _facts({
            f'{len(domain["classes"])} classes': ', '.join(domain['classes']),
            'mIoU': _percent(domain['miou']),
            'label embeddings': _label_embeddings_of(domain),
            'labelled images': _labelled(model, name, domain),
        })
    mious = [domain['miou'] for domain in model['domains'].values()]
    if len(mious) > 1 and None not in mious:
        yield f'\nsum of mIoUs: {_percent(sum(mious))}'
    yield from _settings(model['settings'])


def _began_with(weights: Mapping[str, str] | None) -> str:
    if weights is None:
        return 'random weights'
    return f'{weights["source"]}; SHA-256 of its values {weights["sha256"]}'


def _label_embeddings_of(domain: Mapping[str, Any]) -> str:
    count = domain['label_embeddings_per_class']
    if not count:
        return 'none'
    text = f'{count} a class'
    if absent := domain['classes_without_label_embedding']:
        text += f', but for {", ".join(absent)}'
    return text


def _labelled(model: Mapping[str, Any], name: str, domain: Mapping[str, Any]) -> str:
    count = model['settings'].get('domains', {}).get(name, {}).get('labelled') or 'all'
    known = domain['labelled_images_hash']
    return f'{count}, split {known}' if known else str(count) * bool(model['settings'])


def _checkpoint(checkpoint: Mapping[str, Any]) -> Iterable[str]:
    yield f'{checkpoint["path"]}: the state of a training'
    steps = checkpoint['steps']
    yield from _facts({
        'step': f'{checkpoint["step"]}' + (f' of {steps}' if steps else ''),
        'domains': ', '.join(checkpoint['domains']),
        'network': f'{checkpoint["values"]:,} values',
        'optimiser': _pairs(checkpoint['optimizer']),
        'size': _bytes(checkpoint['bytes']),
        'SHA-256': checkpoint['sha256'],
    })


def _label_embeddings(file: Mapping[str, Any]) -> Iterable[str]:
    yield f'{file["path"]}: label embeddings'
    yield from _facts({
        **{name: f'{shape["rows"]} of {shape["dimensions"]} dimensions'
           for name, shape in file['domains'].items()},
        'size': _bytes(file['bytes']),
        'SHA-256': file['sha256'],
    })


def _run(run: Mapping[str, Any]) -> Iterable[str]:
    kind = 'a network of one domain alone' if run['supervised_only'] else 'a training'
    yield f'{run["path"]}: {kind}, {_state(run["progress"])}'
    facts = dict(_preparation_facts(run['preparations']))
    if run['seconds_per_step']:
        speed = f'{run["seconds_per_step"]:.3g} s a step'
        if images := run['images_per_second']:
            speed += f', {images:.3g} images/s'
        facts['speed'] = speed
    if run['seconds_left'] is not None:
        facts['time left'] = (f'{timedelta(seconds=run["seconds_left"])}, without validation')
    saved = run['progress']['checkpoint_step']
    if saved is not None and not run['progress']['finished']:
        facts['checkpoint'] = f'step {saved}'
    yield from _facts(facts)
    if run['last']:
        yield f'\nlast row of log.csv, step {run["last"]["step"]:.0f}'
        yield from _facts({name: f'{value:.4g}' for name, value in run['last'].items()
                           if name not in NOT_OF_THE_LAST_ROW and value is not None})
    if run['validations']:
        yield '\nmIoU %'
        yield from _validations(run['validations'], run['best_step'])
    yield from _domains(run['settings'])
    yield from _settings(run['settings'])
    yield '\nfiles'
    yield from _facts({name: f'{_bytes(file["bytes"]):>9}  {file["what"]}'
                       for name, file in run['files'].items()})


def _state(progress: Mapping[str, Any]) -> str:
    step, steps = progress['step'], progress['steps']
    if progress['finished']:
        return f'finished, {step} steps'
    if not steps:
        return f'step {step}'
    return f'step {step} of {steps} ({100 * step / steps:.0f} %)'


def _preparation_facts(preparations: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if preparations:
        yield 'label embeddings', preparations['label_embeddings']
    for name, progress in preparations.get('supervised_only_networks', {}).items():
        yield f'{name} alone', _state(progress)


def _validations(validations: Sequence[Mapping[str, Any]], best: int) -> Iterable[str]:
    names = list(dict.fromkeys(name for row in validations for name in row['miou']))
    line = '  {:>8}  ' + '  '.join(f'{{:>{max(7, len(name))}}}' for name in [*names, 'sum'])
    yield line.format('step', *names, 'sum')
    for row in validations:
        values = [*(row['miou'].get(name) for name in names), row['sum']]
        yield (line.format(row['step'], *(_percent(value, '') for value in values))
               + '  ← best' * (row['step'] == best))


def _domains(settings: Mapping[str, Any]) -> Iterable[str]:
    if domains := settings.get('domains'):
        yield '\ndomains'
        yield from _facts({
            name: f'{len(domain.get("classes", []))} classes, {domain.get("labelled") or "all"} '
                  f'labelled images of {_training_folders(domain)}'
            for name, domain in domains.items()})


def _training_folders(domain: Mapping[str, Any]) -> str:
    folders = [domain['train'], *domain.get('train_also', [])] if domain.get('train') else []
    return ', '.join(str(folder.get('images')) for folder in folders) or str(domain.get('root'))


def _settings(settings: Mapping[str, Any]) -> Iterable[str]:
    if parts := {name: _pairs(settings[name]) for name in SECTIONS if settings.get(name)}:
        yield '\nsettings'
        yield from _facts(parts)


def _pairs(values: Mapping[str, Any]) -> str:
    return ', '.join(f'{key} {_value(value)}' for key, value in values.items()
                     if value is not None and not _is_unused(value))


def _is_unused(value: object) -> bool:
    """Return whether a setting is how a large model teaches where there is none."""
    return isinstance(value, Mapping) and value.get('teacher', value) is None


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f'({_pairs(value)})'
    if isinstance(value, bool):
        return str(value).lower()
    return f'{value:g}' if isinstance(value, float) else str(value)


def _facts(facts: Mapping[str, str]) -> Iterable[str]:
    """Yield an indented, aligned line for each fact that is not empty, wrapped."""
    width = max((len(key) for key in facts), default=0)
    for key, text in facts.items():
        if text:
            yield textwrap.fill(
                text, WIDTH, initial_indent=f'  {key:{width}}  ',
                subsequent_indent=' ' * (width + 4), break_long_words=False,
                break_on_hyphens=False)


def _percent(value: float | None, unit: str = ' %') -> str:
    return 'not measured' * bool(unit) if value is None else f'{100 * value:.1f}{unit}'


def _bytes(count: float) -> str:
    for unit in ('B', 'kB', 'MB', 'GB'):
        if count < 1000 or unit == 'GB':
            return f'{count:.0f} {unit}' if unit == 'B' else f'{count:.1f} {unit}'
        count /= 1000
    raise AssertionError
