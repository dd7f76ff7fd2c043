"""What a benchmark compares: files with what runs them, networks of random weights."""

from torch import nn
from two_convolutions import two_convolutions
from univseg_core.benchmarking import candidates, networks
from univseg_core.benchmarking.candidates import of_file
from univseg_core.benchmarking.peers import PeerError, PeerNetwork
from univseg_core.exporting.network import ExportError
from univseg_core.models.exported_file import load_exported
from univseg_core.models.model_file import load_model
from univseg_core.models.normalisation import IMAGENET

SIZE = (24, 40)


def test_a_file_with_all_that_runs_it(exported, monkeypatch):
    path = exported(miou={'place': 0.25, 'hall': 0.75})
    for amx in (False, True):
        monkeypatch.setattr(candidates, 'installed', lambda exported: ['onnxruntime', 'openvino'])
        monkeypatch.setattr(candidates, 'is_good_at_bf16', lambda amx=amx: amx)
        found = list(of_file(path, 'one', [], (720, 1280), 'cpu'))
        assert [(each.backend, each.precision) for each in found] == [
            ('onnxruntime', 'fp32'), ('openvino', 'fp32'),
            *([('openvino', 'bf16')] if amx else [])]
        # No size is its own: the longest side is 480, in the shape of the image.
        assert {(*each.sizes, each.miou) for each in found} == {((270, 480), 0.5)}


def test_own_sizes(exported, model_path):
    assert next(of_file(exported(SIZE), 'one', [], (720, 1280), 'cpu')).sizes == (SIZE,)
    assert next(of_file(model_path, 'light', [], (50, 100), 'cpu')).sizes == ((32, 64),)


def test_encoders_that_cannot_be_exported_are_measured_as_they_are(tmp_path, monkeypatch, caplog):
    def fails(model, size):
        raise ExportError('no onnxscript')
    monkeypatch.setattr(networks, 'encoder_to_onnx', fails)
    path, = networks.new_models(['light'], 3, tmp_path)
    assert list(load_model(path)[0].domains) == ['place0', 'place1', 'place2']
    assert 'light: measured in PyTorch alone: no onnxscript' in caplog.text


def test_encoders_are_exported_as_models_are(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, 'encoder_to_onnx', lambda model, size: two_convolutions())
    model, exported = networks.new_models(['light'], 1, tmp_path)
    assert (model.name, exported.name) == ('light.univseg', 'light.onnx')
    assert load_exported(exported)[0].heads.heads['place0'].weight.tolist() == (
        load_model(model)[0].as_arrays().heads['place0'].weight.tolist())


def test_peers_are_exported_and_those_that_are_missing_left_out(tmp_path, monkeypatch, caplog):
    class Peer:
        def build(self, classes):
            return PeerNetwork(nn.Identity(), nn.Conv2d(3, classes, 8, 8), stride=8)

    class Missing:
        def build(self, classes):
            raise PeerError('smp cannot be imported: pip install smp')

    built = []
    monkeypatch.setattr(networks, 'PEERS', {'there': Peer(), 'missing': Missing()})
    monkeypatch.setattr(networks, 'to_onnx', lambda *values: built.append(values) or b'\x08\x08')
    (path, name, size), = networks.peer_files([SIZE], tmp_path)
    assert (name, size) == ('there', SIZE)
    model, _ = load_exported(path)
    assert (model.stride, model.export.size, model.channels) == (8, SIZE, networks.CLASSES)
    (network, called, normalisation, seen), = built
    assert (called, normalisation, seen) == ('there', IMAGENET, SIZE)
    assert not network.training
    assert 'missing is left out: smp cannot be imported: pip install smp' in caplog.text
