"""Networks of other packages: what they make of images, and what is said where one is missing."""

import sys

import pytest
import torch
from univseg_core.benchmarking.peers import PeerError, PeerNetwork, PEERS, SMP, TORCHVISION

STRIDES = {'lraspp_mobilenet_v3_large': 8, 'deeplabv3_mobilenet_v3_large': 16,
           'unet_resnet18': 1, 'fpn_resnet18': 4, 'deeplabv3plus_resnet18': 4}


def built(name, classes):
    if PEERS[name].module == SMP:
        pytest.importorskip(SMP, reason='needs segmentation-models-pytorch')
    torch.manual_seed(0)
    return PEERS[name].build(classes)


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
