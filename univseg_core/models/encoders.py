"""
The encoders by name, all with one contract, and ImageNet weights for them from local files.

An encoder maps normalised images (B, 3, H, W) float to features (B, out_channels, ⌈H/8⌉, ⌈W/8⌉);
a cell of the features is centred at every eighth pixel.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors.torch import load_file
import torch
from torch import nn
from univseg_core.errors import UnivsegError
from univseg_core.models.drn import DRN, drn_channels, DRN_SPECS
from univseg_core.models.light import light_channels, LightEncoder

OUTPUT_STRIDE = 8

RESNET_CHANNELS = {'resnet18': 512, 'resnet34': 512, 'resnet50': 2048, 'resnet101': 2048}
ENCODERS = (*DRN_SPECS, *RESNET_CHANNELS, 'mobilenet_v3_large', 'light')
"""The encoders' names: for DRN and torchvision's networks those of their authors."""

CLASSIFIERS = ('fc.', 'classifier.')


class EncoderError(UnivsegError):
    """A file of weights that does not fit an encoder, or holds none."""


def encoder_channels(name: str, width: float = 1.0) -> int:
    """
    Return how many channels an encoder's features have, without building it.

    Raises ValueError for a name outside ENCODERS or a width that the encoder cannot have.
    """
    if name in DRN_SPECS:
        return drn_channels(name, width)
    if name in RESNET_CHANNELS:
        if width != 1:
            raise ValueError(f'{name} has no other width than 1, got {width}')
        return RESNET_CHANNELS[name]
    if name == 'mobilenet_v3_large':
        return 6 * _mobilenet_channels(160 * width)
    if name == 'light':
        return light_channels(width)
    raise ValueError(f'encoder {name!r}: expected one of {", ".join(ENCODERS)}')


def build_encoder(name: str, width: float = 1.0) -> nn.Module:
    """
    Return an encoder of random weights, whose `out_channels` are those of encoder_channels.

    `width` multiplies the channels (1 is the published network); a ResNet has no other. The
    parameters' names are those of the published checkpoints. Only torchvision's networks
    import torchvision.

    Raises ValueError for a name outside ENCODERS or a width that the encoder cannot have.
    """
    channels = encoder_channels(name, width)
    if name in DRN_SPECS:
        return DRN(name, width)
    if name == 'light':
        return LightEncoder(width)
    encoder = _resnet(name) if name in RESNET_CHANNELS else _mobilenet(width)
    encoder.out_channels = channels
    return encoder


def _resnet(name: str) -> nn.Sequential:
    from torchvision import models
    network = models.get_model(name, weights=None)
    replace_strides_with_dilation([network.layer3, network.layer4])
    parts = OrderedDict(network.named_children())
    del parts['avgpool'], parts['fc']
    return nn.Sequential(parts)


def _mobilenet(width: float) -> nn.Sequential:
    from torchvision import models
    features = models.get_model(
        'mobilenet_v3_large', weights=None, width_mult=width).features
    replace_strides_with_dilation(features[7:])  # the first six blocks have strides of 8
    return nn.Sequential(OrderedDict(features=features))


def _mobilenet_channels(channels: float) -> int:
    """Return a multiple of 8 as torchvision rounds to one: down by at most a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def replace_strides_with_dilation(layers: Iterable[nn.Module]) -> None:
    """
    Let layers keep the resolution: their convolutions' strides become dilation, in place.

    A convolution is dilated by the product of the strides that stood before it, so that it sees
    what it saw: the outputs with strides are every so many of those with dilation. The layers
    and their convolutions are registered in the order of their calls; a 1×1 convolution with a
    stride is that of a shortcut, parallel to a larger one that has it too.
    """
    dilation = 1
    for layer in layers:
        for convolution in filter(lambda m: isinstance(m, nn.Conv2d), layer.modules()):
            stride, size = convolution.stride[0], convolution.kernel_size[0]
            convolution.stride = (1, 1)
            if size > 1:
                convolution.dilation = (dilation, dilation)
                convolution.padding = (dilation * (size // 2),) * 2
                dilation *= stride


def load_pretrained(encoder: nn.Module, path: Path | str) -> None:
    """
    Put a published checkpoint's weights, from a local file, into an encoder.

    The file is .pth or .pt, read by torch.load(weights_only=True), which builds tensors and
    plain containers and runs no code of the file's (PyTorch before 2.6 had a hole there), or
    .safetensors. It holds a state dict; the prefix `module.` and the classifier (`fc.`,
    `classifier.`) are left out, and `num_batches_tracked` may lack.

    Raises EncoderError, which names the file and each kind of key that does not fit; then the
    encoder stays as it was.
    """
    path = Path(path)
    tensors = {key.removeprefix('module.'): value for key, value in _read(path).items()}
    tensors = {key: value for key, value in tensors.items() if not key.startswith(CLASSIFIERS)}
    if problems := _misfits(encoder, tensors):
        fitting = _encoder_of(tensors)
        hint = f'\nIt fits {fitting} of width 1.' if fitting else ''
        raise EncoderError(f'{path}: these weights do not fit the encoder:\n  '
                           + '\n  '.join(problems) + hint)
    encoder.load_state_dict(tensors, strict=False)  # what may lack was judged above


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    if path.suffix not in ('.pth', '.pt', '.safetensors'):
        raise EncoderError(f'{path}: expected a file of weights: .pth, .pt or .safetensors')
    try:
        if path.suffix == '.safetensors':
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location='cpu', weights_only=True)
    except OSError as error:
        raise EncoderError(f'{path}: cannot be read: {error.strerror or error}') from error
    except Exception as error:  # a damaged file can make its reader stumble anywhere
        # Not in PyTorch's own words: these tell how to run the file's code.
        raise EncoderError(f'{path}: damaged, not a file of weights, or one with code in it, '
                           'which is never run') from error
    if not isinstance(tensors, Mapping) or not all(
            isinstance(key, str) and isinstance(value, torch.Tensor)
            for key, value in tensors.items()):
        raise EncoderError(f'{path}: expected a state dict: names and tensors, nothing else')
    return tensors


def _misfits(encoder: nn.Module, tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return what does not fit, one line a kind."""
    expected = encoder.state_dict()
    missing = [key for key in expected
               if key not in tensors and not key.endswith('num_batches_tracked')]
    unexpected = [key for key in tensors if key not in expected]
    reshaped = [f'{key} (expected {tuple(expected[key].shape)}, got {tuple(value.shape)})'
                for key, value in tensors.items()
                if key in expected and value.shape != expected[key].shape]
    kinds = {'missing': missing, 'unexpected': unexpected, 'of another shape': reshaped}
    return [f'{len(keys)} {kind}: {", ".join(keys[:5])}{", …" if len(keys) > 5 else ""}'
            for kind, keys in kinds.items() if keys]


def _encoder_of(tensors: Mapping[str, torch.Tensor]) -> str | None:
    for name in ENCODERS:
        with torch.device('meta'):  # shapes alone
            if not _misfits(build_encoder(name), tensors):
                return name
    return None
