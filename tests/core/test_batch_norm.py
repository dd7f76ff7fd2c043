"""
Batch norm shared by two processes is nn.BatchNorm2d over their inputs together.

Two real processes, of which this one is the first, compute all cases once; the tests compare what
they left.
"""

from dataclasses import dataclass
from datetime import timedelta

from forked import forkserver
import pytest
from timm.layers import BatchNormAct2d
from tiny_worlds import small_network
import torch
from torch import distributed, nn
from univseg_core.models.batch_norm import CpuSyncBatchNorm, fold_batch_norm, shared_by_devices
from univseg_core.models.encoders import build_encoder

PROCESSES = 2
HANGS = 600
"""Seconds after which a process counts as hanging."""


@dataclass(frozen=True)
class Case:
    """Steps of a layer of 3 channels; each process has so many images (rows) in each step."""

    rows: tuple[tuple[int, int], ...]
    dtype: torch.dtype = torch.float64
    input_dtype: torch.dtype | None = None
    offset: float = 0.0
    channels_last: bool = False
    with_activation: bool = False

    def layer(self, kind: type) -> nn.BatchNorm2d:
        torch.manual_seed(1)
        if self.with_activation:
            layer = BatchNormAct2d(3, eps=1e-3, momentum=0.2, act_layer=nn.ReLU6).to(self.dtype)
            if kind is CpuSyncBatchNorm:
                CpuSyncBatchNorm.convert(layer)
        else:
            layer = kind(3, eps=1e-3, momentum=0.2).to(self.dtype)
        nn.init.uniform_(layer.weight, 0.5, 2)
        nn.init.normal_(layer.bias)
        return layer

    def step(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one step's input and the gradient of its output, of all processes."""
        generator = torch.manual_seed(index)
        shape = (2, sum(self.rows[index]), 3, 4, 5)
        x, gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
        scale = torch.tensor([0.1, 1, 10], dtype=torch.float64).view(1, 3, 1, 1)
        dtype = self.input_dtype or self.dtype
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return ((x * scale + self.offset).to(dtype).contiguous(memory_format=layout),
                gradient.to(dtype))

    def run(self, layer: nn.BatchNorm2d, rank: int | None = None) -> list[dict]:
        """Return what each step leaves, of one process's rows or of all."""
        left = []
        for index, (first, _) in enumerate(self.rows):
            x, gradient = self.step(index)
            if rank is not None:
                mine = (slice(None, first), slice(first, None))[rank]
                x, gradient = x[mine], gradient[mine]
            x.requires_grad_()
            layer.zero_grad()
            y = layer(x)
            y.backward(gradient)
            left.append({'y': y.detach(), 'x.grad': x.grad, 'weight.grad': layer.weight.grad,
                         'bias.grad': layer.bias.grad} | {
                             key: value.clone() for key, value in layer.named_buffers()})
        return left


CASES = {
    'float64': Case(((3, 2), (1, 5))),
    'float64, nothing in the second': Case(((3, 0), (2, 2))),
    'float64, nothing in the first': Case(((0, 4), (2, 1))),
    'float64, far from 0': Case(((3, 2),), offset=30.0),
    'float64, channels last': Case(((3, 2),), channels_last=True),
    "float64, timm's with its activation": Case(((3, 2), (1, 5)), with_activation=True),
    'float32': Case(((3, 2), (1, 5)), torch.float32),
    'float32, nothing in the second': Case(((3, 0), (2, 2)), torch.float32),
    'bfloat16 input': Case(((3, 2), (0, 4)), torch.float32, torch.bfloat16),
}
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2e-2}
HAND_WORKED = 'hand-worked'


def compute(rank, folder):
    """Compute all cases as one of two processes, and return what it has then."""
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meeting', rank=rank,
                                   world_size=PROCESSES, timeout=timedelta(seconds=HANGS))
    try:
        return {name: case.run(case.layer(CpuSyncBatchNorm), rank)
                for name, case in CASES.items()} | {HAND_WORKED: hand_worked(rank)}
    finally:
        distributed.destroy_process_group()


def hand_worked(rank):
    """Return what 1 and 3 in one process, and 5 and 7 in the other, leave there."""
    layer = CpuSyncBatchNorm(1, eps=0.0).double()
    x = torch.tensor([[1.0, 3.0], [5.0, 7.0]][rank], dtype=torch.float64).view(1, 1, 1, 2)
    x.requires_grad_()
    y = layer(x)
    y[..., 0].sum().mul(1 - rank).backward()  # the gradient comes from the 1 only
    return {'y': y.detach().flatten(), 'x.grad': x.grad.flatten(),
            'weight.grad': layer.weight.grad, 'bias.grad': layer.bias.grad,
            'running_mean': layer.running_mean, 'running_var': layer.running_var}


def second_process(folder):
    """Compute all cases beside the process of the tests."""
    torch.set_num_threads(1)
    torch.save(compute(1, folder), f'{folder}/second.pt')


@pytest.fixture(scope='module')
def left(tmp_path_factory):
    """Return what each of two processes has of every case."""
    folder = tmp_path_factory.mktemp('processes')
    second = forkserver().Process(target=second_process, args=(folder,))
    second.start()
    try:
        first = compute(0, folder)
        second.join(HANGS)
        assert second.exitcode == 0
    finally:
        second.kill()
    return first, torch.load(folder / 'second.pt', weights_only=True)


@pytest.mark.parametrize('name', CASES)
def test_two_processes_compute_what_one_does_of_the_whole_batch(left, name):
    case = CASES[name]
    expected = case.run(case.layer(nn.BatchNorm2d))
    tolerance = TOLERANCES[case.input_dtype or case.dtype]

    def close(value, wanted, key):
        assert value.dtype == wanted.dtype
        torch.testing.assert_close(value, wanted, rtol=tolerance, atol=tolerance,
                                   msg=lambda text: f'{key}: {text}')

    for first, second, whole in zip(*(each[name] for each in left), expected, strict=True):
        for key in ('y', 'x.grad'):
            close(torch.cat([first[key], second[key]]), whole[key], key)
        for key in ('weight.grad', 'bias.grad'):  # each has its own share: these are added up
            close(first[key] + second[key], whole[key], key)
        for key in ('running_mean', 'running_var', 'num_batches_tracked'):
            close(first[key], whole[key], key)
            assert torch.equal(first[key], second[key])
    assert first['num_batches_tracked'] == len(case.rows)


def test_a_case_worked_by_hand(left):
    """
    The mean of 1, 3, 5, 7 is 4, their variance 5 (unbiased 20/3): x̂ = (−3, −1, 1, 3)/√5.

    With g = (1, 0, 0, 0), mean(g) = 1/4 and mean(g·x̂) = −3/(4√5), so that
    dL/dx = (g − 1/4 + 3x̂/(4√5))/√5 = (0.3, −0.4, −0.1, 0.2)/√5.
    """
    first, second = (each[HAND_WORKED] for each in left)
    root = 5 ** 0.5
    for key, value, other in [
            ('y', [-3 / root, -1 / root], [1 / root, 3 / root]),
            ('x.grad', [0.3 / root, -0.4 / root], [-0.1 / root, 0.2 / root]),
            ('weight.grad', [-3 / root], [0.0]), ('bias.grad', [1.0], [0.0]),
            ('running_mean', [0.4], [0.4]),
            ('running_var', [0.9 + 2 / 3], [0.9 + 2 / 3])]:
        assert first[key].tolist() == pytest.approx(value, abs=1e-12), key
        assert second[key].tolist() == pytest.approx(other, abs=1e-12), key


def test_in_evaluation_it_is_batch_norm_without_other_processes():
    case = Case(((3, 2),))
    x, _ = case.step(0)
    layer, usual = (case.layer(kind).eval() for kind in (CpuSyncBatchNorm, nn.BatchNorm2d))
    for each in (layer, usual):
        each.running_mean.fill_(0.3)
        each.running_var.fill_(2.5)
    assert torch.equal(layer(x), usual(x))
    assert layer.num_batches_tracked == 0
    assert layer.running_mean.tolist() == 3 * [0.3]


def test_a_converted_network_keeps_its_state():
    network, usual = small_network(), small_network()
    assert CpuSyncBatchNorm.convert(network) is network
    kinds = {type(module) for module in network.modules()}
    assert CpuSyncBatchNorm in kinds
    assert nn.BatchNorm2d not in kinds
    state = network.state_dict()
    assert list(state) == list(usual.state_dict())
    usual.load_state_dict(state)
    images = torch.rand(1, 3, 16, 24) * 255
    assert torch.equal(network.features(images), usual.features(images))


@pytest.mark.parametrize('name', ['efficientnet_lite0', 'resnet18', 'light'])
def test_batch_norms_shared_by_gpus_keep_their_activation(name):
    torch.manual_seed(0)
    encoder = build_encoder(name).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = encoder(images)
        shared = shared_by_devices(encoder).eval()
        assert torch.equal(shared(images), expected)
        folded = fold_batch_norm(shared)
        assert (folded(images) - expected).norm() <= 1e-4 * expected.norm()
    assert not [m for m in folded.modules() if isinstance(m, (nn.BatchNorm2d, nn.SyncBatchNorm))]
