"""What a training's files hold: models, checkpoints, label embeddings, run folders."""

from collections.abc import Mapping
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from univseg_core.errors import shortened
from univseg_core.files.records import parse_json
from univseg_core.files.yaml_text import read_yaml, YamlError
from univseg_core.method.label_embeddings import default_basis
from univseg_core.method.losses import LOSSES
from univseg_core.models.model_card import METADATA_KEY
from univseg_core.models.model_file import load_model
from univseg_core.models.pretrained import weights_named
from univseg_core.models.tensor_files import read_shapes, Shapes, TensorFileError
from univseg_core.reporting.model_description import describe_domains, DescriptionError, facts_of
from univseg_core.reporting.run_tables import best_validation, read_losses, read_validation

CHECKPOINT_KEY = 'checkpoint'

RECENT = 10
"""Last rows of log.csv that tell how fast a training is."""

FILES = {
    'config.yaml': 'the configuration, every default written out',
    'files.json': 'what the model and weight files held that the configuration names',
    'splits.json': 'labelled, unlabelled and validation images of each domain',
    'supervised': 'networks trained on one domain alone',
    'joint': 'network trained on all labels alone',
    'before.json': 'confusion matrices of the model that the run starts from',
    'start.univseg': 'that network with its principal components: what the run starts from',
    'label_embeddings.safetensors': 'label embeddings of each domain',
    'log.csv': 'losses, norms, speed',
    'validation.csv': 'mIoU and class-wise IoU as training went',
    'tensorboard': 'the same for TensorBoard: tensorboard --logdir RUN',
    'curves.png': 'the same as a picture',
    'loggers.json': 'by which ids W&B and MLflow know the run',
    'checkpoint.safetensors': 'where an interrupted training goes on',
    'best.univseg': 'model of the best sum of mIoUs',
    'model.univseg': 'model of the last step',
    'evaluation.json': 'mIoU and class-wise IoU of model.univseg',
    'evaluation.md': 'the same as a table',
    'report.html': 'all about the run, as one page: univseg report RUN',
}
"""What a run folder may hold; pictures of predictions are named after their domains."""


def describe_tensors(path: Path) -> dict[str, Any]:
    """Return what a model file, a checkpoint or a file of label embeddings holds."""
    metadata, shapes = _open(path)
    facts = facts_of(path)
    if METADATA_KEY in metadata:
        return {'kind': 'model', **facts, **_describe_model(path, metadata)}
    if CHECKPOINT_KEY in metadata:
        return {'kind': 'checkpoint', **facts, **_describe_checkpoint(path, metadata, shapes)}
    if shapes and all(len(shape) == 2 for shape in shapes.values()):
        return {'kind': 'label embeddings', **facts,
                'domains': {name: {'rows': rows, 'dimensions': dimensions}
                            for name, (rows, dimensions) in shapes.items()}}
    raise DescriptionError(f'{path}: a safetensors file, but not one that univseg wrote')


def _open(path: Path) -> tuple[dict[str, str], Shapes]:
    """Return a safetensors file's metadata and the shapes of its tensors, which are not read."""
    try:
        shapes, metadata = read_shapes(path)
        return metadata, shapes
    except TensorFileError as error:
        raise DescriptionError(f'{path}: {error}') from None
    except (SafetensorError, OSError) as error:
        raise DescriptionError(
            f'{path}: expected a model file (NAME.univseg), a checkpoint, label embeddings or a '
            f'run folder; it is none of these, or damaged ({error})') from None


def _describe_model(path: Path, metadata: Mapping[str, str]) -> dict:
    model, card = load_model(path)
    return {
        'format_version': parse_json(metadata[METADATA_KEY])['format_version'],
        'encoder': model.spec.encoder, 'width': model.spec.width,
        'embedding_dim': model.spec.embedding_dim, 'stride': model.stride,
        'normalisation': model.normalisation.to_dict(),
        'began_with': model.began_with.to_dict() if model.began_with else None,
        'parameters': sum(p.numel() for p in model.parameters()),
        'image_size': card.image_size,
        'recognises': model.evidence is not None,
        'domains': describe_domains(model.domains, model.as_arrays(), card),
        'settings': card.training.get('config', {}),
    }


def _describe_checkpoint(path: Path, metadata: Mapping[str, str],
                         shapes: Mapping[str, tuple[int, ...]]) -> dict:
    try:
        state = parse_json(metadata[CHECKPOINT_KEY])
        step, group = state['step'], state['groups'][-1]  # a pretrained part comes before it
        schedule = state.get('scheduler', {})
        steps = schedule.get('total_steps', schedule.get('total_iters'))  # one_cycle, polynomial
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DescriptionError(f'{path}: damaged: its description is not as a checkpoint has it '
                               f'({shortened(repr(error))})') from None
    return {
        'step': step,
        'steps': steps,
        'values': sum(math.prod(shape) for key, shape in shapes.items()
                      if key.startswith('model.')),
        'domains': [key.removeprefix('model.label_embeddings_') for key in shapes
                    if key.startswith('model.label_embeddings_')],
        'optimizer': {key: group[key] for key in ('lr', 'weight_decay', 'momentum', 'betas')
                      if key in group},
    }


def describe_run(folder: Path) -> dict[str, Any]:
    """Return what a run folder holds, and how far its training is."""
    columns, validations = read_losses(folder), read_validation(folder)
    if not (columns or validations or any(
            (folder / name).exists() for name in ('config.yaml', 'checkpoint.safetensors'))):
        raise DescriptionError(f'{folder}: not a run folder: it has no config.yaml, log.csv or '
                               'checkpoint.safetensors')
    name, parents = folder.resolve().name, folder.resolve().parents
    of_one_domain = parents[0].name == 'supervised'
    of_all = name == 'joint' and (parents[0] / 'config.yaml').exists()
    is_part = of_one_domain or of_all
    config = _configuration(parents[1] if of_one_domain else parents[0] if of_all else folder)
    if is_part and name in config.get('domains', {}):
        config['domains'] = {name: config['domains'][name]}
    section, key = ('label_embeddings', 'pretrain_steps') if is_part else ('training', 'steps')
    progress = _progress(folder, config.get(section, {}).get(key))
    recent, images = _speed(columns)
    left = (progress['steps'] or 0) - progress['step']
    best = best_validation(validations)
    return {
        'kind': 'run', 'path': str(folder), 'supervised_only': is_part, 'settings': config,
        'progress': progress,
        'seconds_per_step': recent, 'images_per_second': images,
        'seconds_left': round(recent * left) if recent and left > 0 else None,
        'preparations': _preparations(folder, config) if config and not is_part else {},
        'last': {name: _number(values[-1]) for name, values in columns.items()},
        'validations': [{'step': v.step, 'sum': v.total,
                         'miou': {name: _number(value) for name, value in v.miou.items()}}
                        for v in validations],
        'best_step': best.step if best else None,
        'files': _files(folder, config),
    }


def _speed(columns: Mapping[str, np.ndarray]) -> tuple[float | None, float | None]:
    """Return the seconds a step and the images a second of the last rows; None if not logged."""
    seconds, images = (columns.get(name, np.empty(0))[-RECENT:]
                       for name in ('seconds_per_step', 'images_per_second'))
    a_step = seconds.mean() if len(seconds) else math.nan
    # Rows are of equally many steps: their images over their seconds, not a mean of quotients.
    a_second = (images * seconds).sum() / seconds.sum() if len(images) and seconds.any(
        ) else math.nan
    return _number(a_step), _number(a_second)


def _progress(folder: Path, steps: int | None) -> dict:
    """Return how far a training is; `step` is the last one logged, or else the checkpoint's."""
    logged = read_losses(folder).get('step', np.empty(0))
    checkpoint, saved = folder / 'checkpoint.safetensors', None
    if checkpoint.is_file():
        saved = _describe_checkpoint(checkpoint, *_open(checkpoint))['step']
    step = max([int(value) for value in logged[-1:]] + [saved or 0])
    finished = (folder / 'model.univseg').exists() and step >= (steps or 0)
    return {'finished': finished, 'step': step, 'steps': steps, 'checkpoint_step': saved}


def _preparations(folder: Path, config: Mapping[str, Any]) -> dict:
    """Return how far a run is that needs label embeddings first."""
    objective, section, model = (
        config.get(name, {}) for name in ('objective', 'label_embeddings', 'model'))
    if not any(objective.get(loss.setting, loss.default) for loss in LOSSES
               if loss.label_embeddings):
        return {'label_embeddings': 'not needed'}
    if (folder / 'label_embeddings.safetensors').exists():
        return {'label_embeddings': 'there'}
    if section.get('file'):
        return {'label_embeddings': f'to be taken from {section["file"]}'}
    if section.get('networks'):
        return {'label_embeddings': 'to be made from '
                + ', '.join(map(str, section['networks'].values()))}
    if section.get('basis') == 'start':
        return {'label_embeddings': f'to be made from {model.get("start")}'}
    weights = weights_named(model.get('encoder', 'light'), model.get('pretrained'))
    basis = section.get('basis') or default_basis(weights)
    if basis == 'pretrained':
        return {'label_embeddings': f"to be made from the encoder's weights, {weights}"}
    networks = ['joint'] if basis == 'joint' else [
        f'supervised/{name}' for name in config.get('domains', {})]
    return {'label_embeddings': 'not made yet', 'supervised_only_networks': {
        Path(name).name: _progress(folder / name, section.get('pretrain_steps'))
        for name in networks}}


def _configuration(folder: Path) -> dict:
    """Return a run's configuration in plain values, {} without one; its folders may be gone."""
    path = folder / 'config.yaml'
    if not path.is_file():
        return {}
    try:
        values = read_yaml(path)
    except YamlError as error:
        raise DescriptionError(f'{path}: not valid YAML: {error}') from None
    if not isinstance(values, dict) or not all(isinstance(part, dict) for part in values.values()):
        raise DescriptionError(f'{path}: expected the sections of a configuration')
    return values


def _files(folder: Path, config: Mapping[str, Any]) -> dict[str, dict]:
    meanings = FILES | {f'{name}.png': f'predictions on validation images of {name}'
                        for name in config.get('domains', {})}
    files = {}
    for name, meaning in meanings.items():
        path = folder / name
        if path.exists():
            parts = [path] if path.is_file() else [p for p in path.rglob('*') if p.is_file()]
            files[name] = {'bytes': sum(part.stat().st_size for part in parts),
                           'what': meaning.replace('RUN', str(folder))}
    return files


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
