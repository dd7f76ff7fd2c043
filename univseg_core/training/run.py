"""
The training of the universal model.

`train` reads top to bottom: data → the model that it starts from, if any → label embeddings (class
means, of pretrained features or each domain's supervised-only network) → the joint training → the
model file and its evaluation.
"""

from collections.abc import Mapping
from contextlib import ExitStack
import logging
from pathlib import Path
import signal

from univseg_core.batches.dataset import check_files, DomainData, load_data
from univseg_core.batches.splits import read_splits, write_splits
from univseg_core.batches.stores import prepare_stores
from univseg_core.machine.ending import end_with_starter
from univseg_core.machine.resources import choose_workers
from univseg_core.measuring.evaluation import DomainResult
from univseg_core.reporting.run_loggers import check_loggers
from univseg_core.settings.config import RunConfig
from univseg_core.settings.objective import ObjectiveSection
from univseg_core.training.large_model import check_large_model
from univseg_core.training.launching import launched
from univseg_core.training.memory_need import check_memory
from univseg_core.training.named_files import check_named_files, has_begun, note_named_files
from univseg_core.training.networks import network_with_weights
from univseg_core.training.processes import new_fabric, processes_here
from univseg_core.training.run_context import RunContext
from univseg_core.training.run_folder import claimed_run_folder
from univseg_core.training.run_label_embeddings import (
    check_label_embeddings,
    JOINT_START,
    label_embeddings_of_run,
)
from univseg_core.training.safety import advice, TrainingError
from univseg_core.training.start_model import check_start, measured_start
from univseg_core.training.trainer import fit, Task

log = logging.getLogger(__name__)


def train(config: RunConfig, run: Path, *, devices: int = 1,
          nodes: int = 1) -> dict[str, DomainResult]:
    """
    Train the universal model of a configuration in the folder `run`, or go on there.

    The folder gets config.yaml, splits.json, log.csv, validation.csv, tensorboard/,
    checkpoint.safetensors and best.univseg, and at the end model.univseg, evaluation.json and .md,
    curves.png and a panel of pictures of each domain. Where the run learns by label embeddings, it
    gets label_embeddings.safetensors and the networks that these were made from
    (supervised/DOMAIN/ or joint/); with model.start before.json, how good that model was; with any
    model or weight file that the configuration names files.json, what these held.

    With more than one of `devices` on this machine, or of `nodes`, this program is started again
    for each further process, and a step's batch is shared among them; what a run learns does not
    depend on their number. Returns each domain's validation result, in all processes.

    Raises TrainingError where the folder holds a run with other settings, a file that it has still
    to read is not what it was, or the loss is no longer finite, DataError and ImageError for files
    that are not as they should be, EngineError for a device that is not there, LoggerError for a
    logger whose packages are missing.
    """
    fabric = new_fabric(config.training, devices, nodes)
    is_first = fabric.node_rank == fabric.local_rank == 0
    # An experiment's run has something to save when that has been killed; a further process, none.
    end_with_starter(signal.SIGTERM if is_first else signal.SIGKILL)
    if not is_first:
        logging.getLogger('univseg_core').setLevel(logging.ERROR)
    data = load_data(config, read_splits(run / 'splits.json'))
    check_shares(config, devices * nodes)
    with ExitStack() as held:
        if is_first:
            # Before further processes are started, so that none waits for one that has failed.
            check_loggers(config.training.loggers)
            begun = has_begun(config, run)
            check_files(data)
            check_named_files(config, run, begun)
            if not begun:
                check_label_embeddings(config, data)
            check_memory(config, data, fabric, check_large_model(config, data, run))
            if config.model.start is not None and not begun:
                check_start(config, data, run)
            if config.loads_weights and not begun:
                network_with_weights(config, data)  # an error now, or a download, once
            held.enter_context(claimed_run_folder(run, config))
            note_named_files(config, run)
            write_splits(run / 'splits.json', {name: d.parts for name, d in data.items()})
        held.enter_context(launched(fabric))
        held.enter_context(advice(config, str(run)))
        for name, d in data.items():
            log.info('%s: %d classes, %d labelled, %d unlabelled, %d validation images', name,
                     len(d.domain.classes), len(d.labelled), len(d.unlabelled),
                     len(d.validation))
        warn_of_missing_unlabelled(config.objective, data)
        warn_of_unused_settings(config)
        stores = prepare_stores(data, config.data.image_size,
                                unlabelled=config.objective.needs_unlabelled,
                                processes=processes_here(fabric),
                                progress=fabric.is_global_zero)
        workers = choose_workers(config.training.workers, fabric.device.type == 'cuda',
                                 processes_here(fabric), stores.in_memory)
        context = RunContext(config, fabric, stores, workers)
        embeddings, start = {}, config.model.start
        before = measured_start(context, data, run) if start is not None else {}
        if config.objective.needs_label_embeddings:
            embeddings = label_embeddings_of_run(context, data, run)
            if config.basis == 'joint':
                start = run / JOINT_START
        return fit(context, Task(data, run, config.objective, config.training.steps, embeddings,
                                 start, before,
                                 recognises=config.training.recognise,
                                 loggers=config.training.loggers))


def check_shares(config: RunConfig, processes: int) -> None:
    """Raise TrainingError where a step has too few crops for the pieces that share it."""
    data, pieces = config.data, processes * config.training.accumulate
    section = config.label_embeddings
    # The label embeddings come from networks of one domain, whose batches are the smallest.
    alone = (config.objective.needs_label_embeddings and config.basis == 'per_domain'
             and section.file is None and section.networks is None)
    crops = data.labelled_per_domain * (1 if alone else len(config.domains))
    if crops < pieces:
        raise TrainingError(
            f'{processes} processes × training.accumulate {config.training.accumulate} are '
            f'{pieces} pieces, but a batch has {crops} labelled crops: raise '
            f'data.labelled_per_domain ({data.labelled_per_domain}), or lower the others')


def warn_of_missing_unlabelled(objective: ObjectiveSection,
                               data: Mapping[str, DomainData]) -> None:
    """Log what a domain without unlabelled images does without, where others have some."""
    for name, d in data.items():
        if objective.needs_unlabelled and not d.unlabelled:
            log.warning('%s: no unlabelled images: it learns from its labels alone, and from '
                        "other domains' images where there is a cross-domain entropy", name)


def warn_of_unused_settings(config: RunConfig) -> None:
    """Log which settings have no effect, as nothing is there that they are of."""
    if config.training.encoder_rate != 1 and 'encoder_rate' in config.training.model_fields_set \
            and config.model.weights == 'none' and config.model.start is None:
        log.warning('without effect: training.encoder_rate: %s begins without pretrained weights',
                    config.model.encoder)
    distillation = config.objective.distillation
    taught_by_none = distillation.teacher is None and distillation.model_dump(
        exclude_defaults=True)
    if taught_by_none:
        log.warning('without effect: %s: objective.distillation.teacher names no model', ', '.join(
            f'objective.distillation.{key}' for key in taught_by_none))
    if config.objective.needs_label_embeddings:
        return
    unused = [f'objective.{name}' for name in config.objective.model_dump(
        include={'similarity', 'temperature', 'full_resolution'}, exclude_defaults=True)]
    unused += [f'label_embeddings.{name}'
               for name in config.label_embeddings.model_dump(exclude_defaults=True)]
    if unused:
        log.warning('without effect: %s: nothing learns by label embeddings unless '
                    'objective.alpha, beta or anchor is above 0', ', '.join(unused))
