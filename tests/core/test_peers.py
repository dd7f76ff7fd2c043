"""Networks of other packages: their logits, what is said where one is missing, their training."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
import sys

import pytest
import torch
from univseg_core.benchmarking.peers import PeerError, PeerNetwork, PEERS, SMP, TORCHVISION
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError

STRIDES = {'lraspp_mobilenet_v3_large': 8, 'deeplabv3_mobilenet_v3_large': 16,
           'unet_resnet18': 1, 'fpn_resnet18': 4, 'deeplabv3plus_resnet18': 4}


def built(name, classes):
    if PEERS[name].module == SMP:
        pytest.importorskip(SMP, reason='needs segmentation-models-pytorch')
    torch.manual_seed(0)
    return PEERS[name].build(classes)


@pytest.fixture(scope='module')
def benchmark():
    """Return the benchmark that trains them as a module."""
    path = Path(__file__).parents[2] / 'benchmarks' / 'peers.py'
    spec = spec_from_file_location('peers_benchmark', path)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look up their annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_all_are_known():
    assert PEERS.keys() == STRIDES.keys()


@pytest.mark.parametrize('name', STRIDES)
def test_logits_of_an_odd_size(name):
    network = built(name, 5).eval()
    assert network.stride == STRIDES[name]
    with torch.no_grad():
        logits = network(torch.randn(1, 3, 45, 67))
    stride = STRIDES[name]
    assert logits.shape == (1, 5, -(-45 // stride), -(-67 // stride))
    assert logits.isfinite().all()
    assert logits.std() > 0


def test_logits_are_those_of_torchvision_before_it_upsamples():
    from torchvision.models import segmentation
    for name in ('lraspp_mobilenet_v3_large', 'deeplabv3_mobilenet_v3_large'):
        network = built(name, 3).eval()
        torch.manual_seed(0)
        whole = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=3)
        image = torch.randn(1, 3, 48, 64)
        with torch.no_grad():
            full = whole.eval()(image)['out']
            upsampled = torch.nn.functional.interpolate(network(image), size=(48, 64),
                                                        mode='bilinear', align_corners=False)
        assert torch.equal(upsampled, full)


def test_sides_are_padded_with_zeros_and_the_logits_cropped():
    class Seen(torch.nn.Module):
        def forward(self, images):
            self.images = images
            return images[..., ::2, ::2]

    backbone = Seen()
    network = PeerNetwork(backbone, torch.nn.Identity(), stride=2, multiple=4)
    logits = network(torch.ones(1, 3, 5, 8))
    assert backbone.images.shape == (1, 3, 8, 8)
    assert backbone.images.sum() == 3 * 5 * 8
    assert torch.equal(logits, torch.ones(1, 3, 3, 4))


def test_the_backbone_is_the_part_with_imagenet_weights():
    network = built('lraspp_mobilenet_v3_large', 3)
    own = sum(parameter.numel() for parameter in network.backbone.parameters())
    # MobileNetV3-Large's features, torchvision's count: 5 483 032 less its classifier's,
    # 960·1280 + 1280 + 1280·1000 + 1000.
    assert own == 5_483_032 - (960 * 1280 + 1280 + 1280 * 1000 + 1000)


@pytest.mark.parametrize(('name', 'line'), [
    ('lraspp_mobilenet_v3_large', 'pip install torchvision'),
    ('fpn_resnet18', 'pip install segmentation-models-pytorch')])
def test_a_missing_package_is_named_with_the_line_of_pip(name, line, monkeypatch):
    monkeypatch.setitem(sys.modules, PEERS[name].module, None)
    with pytest.raises(PeerError, match=f'{PEERS[name].module} cannot be imported .*{line}$'):
        PEERS[name].build(3)


def test_weights_that_cannot_be_downloaded(monkeypatch):
    from torchvision.models import segmentation

    def no_network(**options):
        assert options['weights_backbone'] == 'IMAGENET1K_V1'
        raise OSError('no route to host')

    assert PEERS['lraspp_mobilenet_v3_large'].module == TORCHVISION
    monkeypatch.setattr(segmentation, 'lraspp_mobilenet_v3_large', no_network)
    with pytest.raises(PeerError, match=r'torchvision: ImageNet weights could not be downloaded'
                                        r'.*: no route to host$'):
        PEERS['lraspp_mobilenet_v3_large'].build(3, pretrained=True)


def test_each_domain_has_its_own_channels(benchmark):
    domains = {name: Domain.create(name, [f'class {i}' for i in range(classes)])
               for name, classes in (('one', 2), ('two', 3), ('three', 1))}
    assert benchmark.shares(domains) == {
        'one': slice(0, 2), 'two': slice(2, 5), 'three': slice(5, 6)}


def test_a_domains_loss_teaches_its_own_classifier_alone(benchmark):
    network = built('lraspp_mobilenet_v3_large', 5).eval()
    candidate = benchmark.Candidate(network, {'one': slice(0, 2), 'two': slice(2, 5)})
    candidate.logits(torch.rand(1, 3, 32, 32) * 255)[:, candidate.channels['one']].sum().backward()
    gradients = network.head.low_classifier.weight.grad.abs().sum((1, 2, 3))
    assert (gradients[:2] > 0).all()
    assert (gradients[2:] == 0).all()


def test_a_table_of_a_run_and_a_peer(benchmark, finished_run, tmp_path, monkeypatch, capsys):
    run, config = finished_run
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, 'argv', ['peers.py', str(run), '--steps', '2', '--threads',
                                      str(threads), '--out', str(tmp_path / 'out')])
    benchmark.main()
    header, _, ours, peer = capsys.readouterr().out.splitlines()
    assert header.split(' | ')[3:-2] == list(config.domains)
    assert ours.startswith(f'| ours: {config.model.encoder}')
    assert peer.startswith('| lraspp_mobilenet_v3_large | random weights | 3.2 | ')
    *mious, total, _ = map(float, peer.strip('| ').split(' | ')[3:])
    assert total == pytest.approx(sum(mious), abs=0.2)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'lraspp_mobilenet_v3_large.json', 'lraspp_mobilenet_v3_large.safetensors']


def test_a_run_without_a_domain_of_the_first(benchmark, model):
    with pytest.raises(UnivsegError, match=r'its model was not measured on nowhere$'):
        benchmark.row_of_run(model.parent, ['nowhere'])
