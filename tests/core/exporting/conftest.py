"""A tiny network that was exported once."""

from exported_models import BACKENDS, CARD, Exported
import pytest
from tiny_worlds import small_network
import torch
from univseg_core.exporting.graph import logits_graph
from univseg_core.models.exported_file import Export, ExportedModel, save_exported
from univseg_core.models.model_file import save_model


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """Run the networks on one core, as they are tiny, and leave the process's memory alone."""
    for name in ('onnxruntime_backend', 'openvino_backend'):
        monkeypatch.setattr(f'univseg_core.inference.{name}.cpu_cores', lambda: 1)
    monkeypatch.setattr('univseg_core.inference.openvino_backend.release_memory', lambda: None)


@pytest.fixture(scope='session')
def exported(traced, tmp_path_factory) -> Exported:
    """Return a network and its files; not to be changed."""
    network = small_network(encoder='light')
    generator = torch.manual_seed(3)
    network.set_label_embeddings('outdoor', torch.randn(9, 8, generator=generator))  # K = 3
    network.set_label_embeddings('indoor', torch.randn(2, 8, generator=generator))
    folder = tmp_path_factory.mktemp('exported')
    source, path = folder / 'tiny.univseg', folder / 'tiny.onnx'
    save_model(source, network, CARD)
    heads = network.as_arrays()
    model = ExportedModel(
        path, traced, Export(made_of=64 * '0'), network.spec,
        network.normalisation, network.encoder.out_channels, heads, dict(network.domains),
        logits_graph(heads.heads))
    save_exported(path, model, CARD)
    return Exported(network, source, path, traced, model)


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Return the name of each backend for exported models."""
    return request.param


@pytest.fixture
def copied(exported, tmp_path):
    """Return a copy of the exported file, in a folder of its own."""
    path = tmp_path / 'copy' / 'tiny.onnx'
    path.parent.mkdir()
    path.write_bytes(exported.path.read_bytes())
    return path
