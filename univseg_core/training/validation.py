"""What is measured of a network in training, and what a finished training leaves."""

from collections.abc import Mapping
from dataclasses import dataclass
import logging
from pathlib import Path

from lightning_fabric import Fabric
import numpy as np
from univseg_core.batches.dataset import DomainData
from univseg_core.batches.splits import split_hash
from univseg_core.files import write_text
from univseg_core.inference.segmenter import Segmenter
from univseg_core.measuring.evaluation import (
    DomainResult,
    evaluate,
    report,
    signed_points,
    write_evaluation,
)
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.models.universal import UniversalSegmenter
from univseg_core.pictures.images import write_png
from univseg_core.reporting.panels import MostDifferent, thumbnail, validation_panel
from univseg_core.reporting.plots.curves import draw_curves
from univseg_core.reporting.run_log import RunLog
from univseg_core.settings.config import RunConfig
from univseg_core.training.processes import summed_results

BEST = 'best.univseg'

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """What a validation found: each domain's result, and a panel of pictures (rank 0 alone)."""

    results: dict[str, DomainResult]
    panels: dict[str, np.ndarray]


def validate(fabric: Fabric, config: RunConfig, network: UniversalSegmenter,
             data: Mapping[str, DomainData], *, label_embeddings: bool) -> Measured:
    """
    Measure a network in training on the validation images, shared among the processes.

    Each image takes one forward pass, pictures included. `label_embeddings` measures its label
    embeddings, too.
    """
    share = {name: d.validation[fabric.global_rank::fabric.world_size]
             for name, d in data.items()}
    # By thumbnails, not by the network's features: they are the same pictures at each validation.
    shown: dict[str, MostDifferent[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {
        name: MostDifferent() for name in share}

    def show(name: str, image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> None:
        shown[name].add(thumbnail(image), (image, truth, mask))

    results = evaluate(deployed(network, config), share, label_embeddings=label_embeddings,
                       entropy=True, progress=fabric.is_global_zero,
                       shown=show if fabric.is_global_zero else None)
    return Measured(summed_results(fabric, results), {
        name: validation_panel(data[name].domain, of_domain.things)
        for name, of_domain in shown.items() if fabric.is_global_zero})


def note_validation(run_log: RunLog, config: RunConfig, network: UniversalSegmenter,
                    data: Mapping[str, DomainData], step: int, folder: Path,
                    measured: Measured) -> None:
    """Log a validation with its pictures, and keep the model if it is the best so far."""
    if run_log.validation(step, measured.results):
        save_model(folder / BEST, network, model_card(config, data, measured.results))
    for name, panel in measured.panels.items():
        run_log.pictures(step, name, panel)


def write_results(folder: Path, config: RunConfig, network: UniversalSegmenter,
                  data: Mapping[str, DomainData], measured: Measured) -> None:
    """Write a finished training's model file, evaluation, curves and panels of pictures."""
    results = measured.results
    save_model(folder / 'model.univseg', network, model_card(config, data, results))
    write_text(folder / 'evaluation.md', report(results) + '\n')
    for name, panel in measured.panels.items():
        write_png(folder / f'{name}.png', panel)
    draw_curves(folder)
    # Last: where it is, nothing is missing.
    write_evaluation(folder / 'evaluation.json', results)
    log.info('%s: %s', folder, summary(results))


def model_card(config: RunConfig, data: Mapping[str, DomainData],
               results: Mapping[str, DomainResult]) -> ModelCard:
    """Return what a model file says of its making."""
    return ModelCard(
        image_size=config.data.image_size,
        miou={name: result.miou for name, result in results.items()},
        training={'config': config.model_dump(mode='json'),
                  'labelled': {name: split_hash(d.labelled) for name, d in data.items()}})


def deployed(network: UniversalSegmenter, config: RunConfig) -> Segmenter:
    """Return a Segmenter of a network in training, as a robot would run it, in float32."""
    device = str(network.mean.device)
    return Segmenter(network, ModelCard(config.data.image_size), device=device, precision='fp32')


def summary(results: Mapping[str, DomainResult]) -> str:
    """Return the domains' mIoUs, their changes where known, and their sum in one line."""
    parts = [f'{name} {100 * result.miou:.1f}'
             + ('' if result.change is None else f' ({signed_points(result.change)})')
             for name, result in results.items()]
    total = 100 * sum(result.miou for result in results.values())
    return f'mIoU % {", ".join(parts)}; sum {total:.1f}'
