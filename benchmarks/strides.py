"""
Measure what a model's stride alone costs: the best masks that features at a stride could give.

    UNIVSEG_DATA=/data python benchmarks/strides.py --domain outdoor train/camvid_nyuv2.yaml

Each validation label map is averaged over the cells of a stride, which a network that knows all
would do, and brought back to its own size as logits are. The IoU of these masks says which
classes are too thin for a stride, whatever is learned: a Markdown table of IoU % by class.
"""

import argparse

import torch
from univseg_core.batches.dataset import load_validation
from univseg_core.datasets.folders import read_sample
from univseg_core.domains import Domain
from univseg_core.inference.full_resolution import top_classes
from univseg_core.measuring.evaluation import ConfusionCount, DomainResult
from univseg_core.method.pixel_statistics import class_shares
from univseg_core.pictures.images import fit_size, resize_label
from univseg_core.settings.config import load_config


def ceiling(domain: Domain, samples: list, stride: int, longest: int | None) -> DomainResult:
    """Return the result of masks that are the truth, seen at a size and averaged over cells."""
    count = ConfusionCount(domain)
    for sample in samples:
        _, truth = read_sample(sample, domain)
        seen = fit_size(*truth.shape, longest)
        label = torch.from_numpy(resize_label(truth, *seen))
        shares = class_shares(label, len(domain.classes), stride)
        mask, _ = top_classes(shares.numpy(), seen, truth.shape, stride)
        count.add(mask, truth)
    return count.result()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a configuration: its validation images, at its size')
    parser.add_argument('overrides', nargs='*', help='settings to change: data.image_size=480')
    parser.add_argument('--domain', required=True, help='whose validation images')
    parser.add_argument('--strides', type=int, nargs='+', default=[4, 8],
                        help='(default: 4 8)')
    options = parser.parse_args()
    config = load_config(options.config, options.overrides)
    domain = config.domain(options.domain)
    [samples] = load_validation(config, {domain.name: domain}).values()
    results = [ceiling(domain, samples, stride, config.data.image_size)
               for stride in options.strides]
    print('| class | ' + ' | '.join(f'stride {stride}' for stride in options.strides) + ' |')
    print('|---|' + '--:|' * len(results))
    for i, name in enumerate(domain.classes):
        print(f'| {name} | ' + ' | '.join(f'{100 * r.iou[i]:.0f}' for r in results) + ' |')
    print('| mIoU | ' + ' | '.join(f'{100 * r.miou:.1f}' for r in results) + ' |')


if __name__ == '__main__':
    main()
