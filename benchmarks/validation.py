"""
Measure what a validation costs beside the bare forward passes of the deployed network.

    UNIVSEG_DATA=/data python benchmarks/validation.py train/camvid_nyuv2.yaml --domain outdoor

The network has random weights: its speed does not depend on them. Bare are the encoder and one
head, of images that are in memory as the network takes them; the validation is that of a training,
from the network in training to results and pictures. Both take turns; medians and their ratio.
"""

import argparse
from copy import deepcopy
import statistics
import time

import torch
from torch import nn
from univseg_core.batches.dataset import load_data
from univseg_core.models.batch_norm import fold_batch_norm
from univseg_core.pictures.images import fit_size, read_image, resize_image
from univseg_core.settings.config import load_config
from univseg_core.training.networks import new_network
from univseg_core.training.processes import new_fabric
from univseg_core.training.validation import validate


@torch.inference_mode()
def bare(encoder: nn.Module, head: nn.Module, images: list[torch.Tensor]) -> float:
    """Return the seconds of the bare forward passes of images (1, 3, H, W) float32."""
    started = time.perf_counter()
    for image in images:
        head(encoder(image))
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a configuration, of which the domains and the model count')
    parser.add_argument('overrides', nargs='*', help='settings to change: data.image_size=480')
    parser.add_argument('--domain', required=True, help='whose validation images')
    parser.add_argument('--threads', type=int, default=2, help='(default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=5, help='(default: %(default)s)')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = load_config(options.config, options.overrides)
    data, name = load_data(config), options.domain
    fabric = new_fabric(config.training, 1, 1)
    network = new_network(config, data).eval()
    encoder = fold_batch_norm(deepcopy(network.encoder)).to(memory_format=torch.channels_last)
    images = []
    for sample in data[name].validation:
        image = read_image(sample.image)
        image = resize_image(image, *fit_size(*image.shape[:2], config.data.image_size))
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        images.append(network.normalised(pixels))
    passes, validations = [], []
    bare(encoder, network.head(name), images[:10])
    for _ in range(options.repeats):
        passes.append(bare(encoder, network.head(name), images))
        started = time.perf_counter()
        validate(fabric, config, network, {name: data[name]}, label_embeddings=False)
        validations.append(time.perf_counter() - started)
    first, second = statistics.median(passes), statistics.median(validations)
    print(f'{len(images)} images of {name}, {config.model.encoder}, {options.threads} threads: '
          f'bare forward passes {first:.2f} s, validation {second:.2f} s: {second / first:.2f} ×')


if __name__ == '__main__':
    main()
