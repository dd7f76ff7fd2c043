"""
Hold exported models against their originals, as a Markdown table: equal pixels, all sizes.

    python benchmarks/equality.py runs/first light drn_d_22:0.25

MODEL is a model file or run folder, or ENCODER[:WIDTH] for a network with random weights. Each
is exported in fp32 for images of any size, and runs by each backend that is installed on images
at their own sizes, which the network sees as they are: odd ones, tiny ones, 3840×2160. The
features' difference is the largest, relative to the largest feature. Where masks differ, the tie
is how far the two classes' logits are apart at most, relative to the largest logit: a good figure
is 99.9 % or more of equal pixels, and ties of 1e-4 or less.
"""

import argparse
from pathlib import Path
import tempfile

import cv2
import numpy as np
import torch
from torch import nn
from univseg_core.commands.options import model_file
from univseg_core.domains import Domain
from univseg_core.exporting.network import encoder_to_onnx
from univseg_core.inference.backends import installed
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.exported_file import Export, ExportedModel
from univseg_core.models.model_card import ModelCard, ModelSpec
from univseg_core.models.model_file import load_model
from univseg_core.models.universal import UniversalSegmenter

SIZES = ((8, 8), (1, 64), (64, 1), (5, 90), (17, 8), (37, 50), (97, 131), (240, 321), (360, 480),
         (480, 640), (720, 1280), (2160, 3840))
"""(height, width) in pixels."""


def random_network(name: str) -> UniversalSegmenter:
    """Return a network of ENCODER[:WIDTH] with two domains, as if it had learned."""
    encoder, _, width = name.partition(':')
    torch.manual_seed(0)
    network = UniversalSegmenter(ModelSpec(encoder, float(width or 1)), [
        Domain.create('outdoor', [f'class_{i}' for i in range(11)]),
        Domain.create('indoor', [f'class_{i}' for i in range(13)])])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, std=0.2)
    return network.eval()


def image_of(height: int, width: int) -> np.ndarray:
    """Return an image (height, width, 3) uint8 of soft patches and noise."""
    generator = np.random.default_rng(0)
    patches = generator.integers(0, 256, (9, 12, 3), np.uint8)
    soft = cv2.resize(patches, (width, height), interpolation=cv2.INTER_LINEAR)
    noise = generator.integers(-20, 21, (height, width, 3))
    return np.clip(soft + noise, 0, 255).astype(np.uint8)


def tie(masks: list[np.ndarray], logits: np.ndarray, stride: int) -> float:
    """Return how far the logits of two masks are apart at most where they differ."""
    rows, columns = np.nonzero(masks[0] != masks[1])
    if not len(rows):
        return 0.0
    # Bilinear between the centres of cells, the outermost ones repeated.
    (y, y_share), (x, x_share) = (_cells(each, stride, side) for each, side in
                                  ((rows, logits.shape[1]), (columns, logits.shape[2])))
    apart = []
    for mask in masks:
        code = mask[rows, columns]
        top = (1 - x_share) * logits[code, y[0], x[0]] + x_share * logits[code, y[0], x[1]]
        low = (1 - x_share) * logits[code, y[1], x[0]] + x_share * logits[code, y[1], x[1]]
        apart.append((1 - y_share) * top + y_share * low)
    return float(np.abs(apart[0] - apart[1]).max() / np.abs(logits).max())


def _cells(pixels: np.ndarray, stride: int, count: int) -> tuple[tuple, np.ndarray]:
    """Return the two cells next to some pixels, and the share of the second, 0..1."""
    place = np.clip((pixels + 0.5) / stride - 0.5, 0, count - 1)
    first = np.floor(place).astype(int)
    return (first, np.minimum(first + 1, count - 1)), place - first


def main() -> None:
    """Compare everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='+', metavar='MODEL')
    parser.add_argument('--largest', type=int, default=3840,
                        help='longest side in pixels that is tried (default: %(default)s)')
    options = parser.parse_args()
    print('| model | size | backend | features differ by | domain | equal pixels, % | classes | '
          'largest tie |\n|---|---|---|--:|---|--:|--:|--:|')
    for name in options.models:
        path = Path(name)
        network, card = (load_model(model_file(path)) if path.exists()
                         else (random_network(name), ModelCard()))
        heads = network.as_arrays()
        with tempfile.TemporaryDirectory() as folder:
            exported = ExportedModel(
                Path(folder) / 'a.onnx', encoder_to_onnx(network, None),
                Export(), network.spec, network.normalisation, network.encoder.out_channels,
                heads, dict(network.domains))
        for size in (size for size in SIZES if max(size) <= options.largest):
            image = image_of(*size)
            original = Segmenter(network, card, device='cpu', precision='fp32',
                                 inference_size=max(size))
            before = original.encode(image)
            features = original.features(before)
            for backend in installed(True):
                other = Segmenter(exported, card, device='cpu', precision='fp32',
                                  backend=backend, inference_size=max(size))
                after = other.encode(image)
                differ = np.abs(other.features(after) - features).max() / np.abs(features).max()
                for domain in original.domains:
                    masks = [original.head_mask(before, domain), other.head_mask(after, domain)]
                    print(f'| {name} | {size[1]}×{size[0]} | {backend} | {differ:.0e} | {domain} '
                          f'| {100 * np.mean(masks[0] == masks[1]):.4f} | '
                          f'{len(np.unique(masks[0]))} | '
                          f'{tie(masks, original.logits(before, domain), other.stride):.0e} |',
                          flush=True)


if __name__ == '__main__':
    main()
