"""The evidence of its domains that a run's model files get."""

from collections.abc import Mapping
import logging
from pathlib import Path

from univseg_core.batches.dataset import DomainData
from univseg_core.machine.memory import is_out_of_memory
from univseg_core.method.domain_evidence_fit import EvidenceError, make_evidence
from univseg_core.models.domain_evidence import DomainEvidence
from univseg_core.models.model_file import load_model, save_model
from univseg_core.models.universal import UniversalSegmenter
from univseg_core.training.processes import others_waiting
from univseg_core.training.run_context import RunContext
from univseg_core.training.validation import deployed

log = logging.getLogger(__name__)


def renew_evidence(context: RunContext, network: UniversalSegmenter,
                   data: Mapping[str, DomainData]) -> None:
    """
    Make a network's evidence of its domains anew, in all processes: the first one does it.

    It is made of the labelled and the unlabelled images. Where a domain has too few of them, the
    network has none, which the log says.
    """
    fabric = context.fabric
    with others_waiting(fabric):
        evidence = _made(context, network, data) if fabric.is_global_zero else None
    network.evidence = fabric.broadcast(evidence)


def complete_evidence(context: RunContext, path: Path, data: Mapping[str, DomainData]) -> None:
    """Give a model file evidence of its domains where it has none, in the first process alone."""
    network, card = load_model(path)
    if network.evidence is None:
        network.to(context.fabric.device)
        network.evidence = _made(context, network, data)
        save_model(path, network, card)


def _made(context: RunContext, network: UniversalSegmenter,
          data: Mapping[str, DomainData]) -> DomainEvidence | None:
    images = {name: each.training_images for name, each in data.items()}
    try:
        fitted = make_evidence(deployed(network, context.config), images,
                               seed=context.config.training.seed)
    except EvidenceError as error:
        log.warning('the model cannot tell its domains from each other, nor from all else: %s',
                    error)
        return None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        # Whole images, some in twice the size, may need more than a step did: the model is good.
        log.warning('the model cannot tell its domains from each other, nor from all else: out '
                    'of memory; `univseg recognise` adds that, with --device cpu')
        return None
    log.info('evidence of the domains: %s', fitted.text())
    return fitted.evidence
