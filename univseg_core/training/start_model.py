"""The model file that a run starts from: whether it fits, and how good it was."""

from collections.abc import Mapping
import logging
from pathlib import Path

from univseg_core.batches.dataset import DomainData
from univseg_core.inference.segmenter import Segmenter
from univseg_core.measuring.evaluation import (
    DomainResult,
    evaluate,
    read_confusions,
    write_confusions,
)
from univseg_core.method.losses import LOSSES
from univseg_core.models.model_file import load_model
from univseg_core.settings.config import RunConfig
from univseg_core.training.networks import new_network, start_from
from univseg_core.training.processes import summed_results
from univseg_core.training.run_context import RunContext
from univseg_core.training.safety import TrainingError
from univseg_core.training.validation import summary

BEFORE = 'before.json'
"""Where a run keeps how good the model was that it starts from."""

log = logging.getLogger(__name__)


def check_start(config: RunConfig, data: Mapping[str, DomainData], run: Path) -> None:
    """
    Log what a run takes from the model file `model.start`, and what of it is left behind.

    Raises TrainingError where it does not fit, or lies in the run's own folder.
    """
    path = config.model.start
    assert path is not None
    if path.is_relative_to(run.resolve()):
        raise TrainingError(f'model.start: {path} lies in the folder of this run, which writes '
                            'its own models there: name another --run folder')
    found, card = start_from(path, new_network(config, data))
    known = [name for name in data if name in found.domains]
    log.info('start from %s: %s', path, ', '.join(
        f'{name} {"with its head" if name in known else "is new"}' for name in data))
    if left := [name for name in found.domains if name not in known]:
        log.warning('model.start: %s has heads of domains that the configuration does not name, '
                    'and that the new model will lack: %s', path, ', '.join(left))
    if card.image_size != config.data.image_size:
        log.warning('model.start: %s has learned from images of data.image_size %s; here it is '
                    '%s', path, card.image_size or 'null', config.data.image_size or 'null')
    objective = card.training.get('config', {}).get('objective', {})
    if config.label_embeddings.basis == 'start' and not any(
            objective.get(loss.setting, loss.default) for loss in LOSSES if loss.label_embeddings):
        log.warning('label_embeddings.basis: start: nothing taught the embedding of %s (its α, β '
                    'and anchor were 0): its label embeddings are those of a random projection',
                    path)


def measured_start(context: RunContext, data: Mapping[str, DomainData],
                   run: Path) -> dict[str, DomainResult]:
    """
    Return how good the heads of `model.start` are on the validation images of their domains.

    They are measured once, as that model is deployed, and kept in the run's before.json as
    confusion matrices. Domains that it lacks are left out. Raises TrainingError where that file is
    damaged or of other classes.
    """
    fabric, start, path = context.fabric, context.config.model.start, run / BEFORE
    assert start is not None
    if not fabric.broadcast(path.exists()):  # what one process sees, all go by
        network, card = load_model(start)
        segmenter = Segmenter(network, card, device=str(fabric.device), precision='fp32')
        share = {name: d.validation[fabric.global_rank::fabric.world_size]
                 for name, d in data.items() if name in network.domains}
        measured = summed_results(fabric, evaluate(segmenter, share,
                                                   progress=fabric.is_global_zero))
        if fabric.is_global_zero:
            write_confusions(path, measured)
    results = fabric.broadcast(_read(path, data) if fabric.is_global_zero else {})
    if results:
        log.info('%s, before: %s', start, summary(results))
    return results


def _read(path: Path, data: Mapping[str, DomainData]) -> dict[str, DomainResult]:
    try:
        return read_confusions(path, {name: d.domain for name, d in data.items()})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f'{path}: damaged ({error!r}); remove it to measure model.start '
                            'again') from None
