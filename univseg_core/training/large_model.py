"""The large model that a run is taught by: whether it fits, and its teacher."""

from collections.abc import Mapping
import logging
import math
from pathlib import Path

import torch
from univseg_core.batches.dataset import DomainData
from univseg_core.inference.torch_backend import folded
from univseg_core.models.model_file import load_model, ModelCard, ModelFileError
from univseg_core.models.universal import UniversalSegmenter
from univseg_core.settings.config import RunConfig
from univseg_core.settings.objective import DistillationSection
from univseg_core.training.safety import TrainingError
from univseg_core.training.teacher import Teacher

SETTING = 'objective.distillation.teacher'
"""The key that names it."""

log = logging.getLogger(__name__)


def check_large_model(config: RunConfig, data: Mapping[str, DomainData],
                      run: Path) -> UniversalSegmenter | None:
    """
    Return the large model of a run, in which all domains of `data` are as they are there, if any.

    Raises TrainingError where it is no model file, lacks a domain or has other classes of one, or
    lies in the run's own folder.
    """
    path = config.objective.large_model
    if path is None:
        return None
    if path.is_relative_to(run.resolve()):
        raise TrainingError(f'{SETTING}: {path} lies in the folder of this run, which writes its '
                            'own models there: name another --run folder')
    network, card = _loaded(path, data)
    log.info('taught by %s: %s at stride %d', path, network.spec.encoder, network.stride)
    if card.image_size != config.data.image_size:
        log.warning('%s: %s has learned from images of data.image_size %s; here it is %s, at '
                    'which it knows less', SETTING, path, card.image_size or 'null',
                    config.data.image_size or 'null')
    return network


def large_teacher(path: Path, section: DistillationSection, data: Mapping[str, DomainData],
                  stride: int, device: torch.device) -> Teacher:
    """Return the teacher that a model file is to a network of a stride; see check_large_model."""
    network, _ = _loaded(path, data)
    network.encoder = folded(network.encoder, network.spec.encoder)
    network.to(memory_format=torch.channels_last).to(device)
    return Teacher(network, stride, temperature=section.temperature, labelled=section.labelled)


def check_answers(losses: Mapping[str, float], path: Path | None, where: str) -> None:
    """Raise TrainingError where a step's loss is not finite by the large model's fault alone."""
    if path and not math.isfinite(losses['distillation']) and math.isfinite(
            losses['supervised']):
        raise TrainingError(
            f'{where}: what {path} answers is not finite ({SETTING}). The last '
            'checkpoint before it is kept. Set training.precision=32-true, or name another model '
            'and another --run folder')


def _loaded(path: Path, data: Mapping[str, DomainData]) -> tuple[UniversalSegmenter, ModelCard]:
    try:
        network, card = load_model(path)
    except ModelFileError as error:
        raise TrainingError(f'{SETTING}: {error}') from error
    for domain in (d.domain for d in data.values()):
        its = network.domains.get(domain.name)
        if its is None:
            raise TrainingError(
                f'{SETTING}: {path} has no domain {domain.name}, but {", ".join(network.domains)}'
                ': expected a model of all domains of the configuration')
        if its.classes != domain.classes:
            raise TrainingError(
                f'{SETTING}: {path}: {domain.name}: expected the classes '
                f'{", ".join(domain.classes)}, in this order, got {", ".join(its.classes)}')
    return network, card
