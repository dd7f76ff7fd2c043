"""What is compared: files of models, with each backend and precision that runs them here."""

from collections.abc import Iterator, Sequence
from pathlib import Path
import statistics

from univseg_core.benchmarking.rows import Candidate, Size
from univseg_core.errors import UnivsegError
from univseg_core.inference.backends import BACKENDS, installed, Network, of_files
from univseg_core.inference.choice import UNKNOWN_SIZE
from univseg_core.inference.segmenter import load_network
from univseg_core.machine.processors import is_good_at_bf16
from univseg_core.models.exported_file import ExportedModel
from univseg_core.models.model_card import ModelCard
from univseg_core.pictures.images import fit_size


def of_file(path: Path, name: str, sizes: Sequence[Size], image: Size, device: str,
            *, has_heads: bool = True, random: bool = False) -> Iterator[Candidate]:
    """
    Yield a model file, or one that was exported, with all that runs it here.

    The network sees each of `sizes`, or without any the one at which it sees an image of the size
    `image`. Where it takes another size alone, the process that measures it says so. Raises
    ModelFileError where it is no model, UnivsegError where nothing that runs it is installed.
    """
    network, card = load_network(path)
    exported = isinstance(network, ExportedModel)
    backends = installed(exported)
    if not backends:
        raise UnivsegError(f'{path}: none of what runs it is installed: ' + ' or '.join(
            f'pip install {BACKENDS[each].pip}' for each in of_files(exported)))
    seen = tuple(sizes) or (_own_size(network, card, image),)
    miou = statistics.fmean(card.miou.values()) if card.miou else None
    for backend in backends:
        for precision in _precisions(network, backend, device):
            yield Candidate(name, path, backend, precision, seen, has_heads, random, miou)


def _own_size(network: Network, card: ModelCard, image: Size) -> Size:
    if isinstance(network, ExportedModel) and network.export.size:
        return network.export.size
    return fit_size(*image, card.image_size or UNKNOWN_SIZE)


def _precisions(network: Network, backend: str, device: str) -> list[str]:
    """Return the precisions that are worth a try; a backend may refuse some on its device."""
    own = network.export.precision if isinstance(network, ExportedModel) else 'fp32'
    if own != 'fp32' or backend == 'onnxruntime':
        return [own]
    if device != 'cpu':
        return ['fp32', 'bf16', 'fp16']
    return ['fp32', 'bf16'] if is_good_at_bf16() else ['fp32']
