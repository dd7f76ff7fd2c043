"""
Train what users would pick instead on a finished run's own labels and budget: a table of mIoUs.

    univseg train train/camvid_nyuv2.yaml --run runs/ours
    python benchmarks/peers.py runs/ours --peers lraspp_mobilenet_v3_large

A peer learns from the run's labelled images alone, by its batches, augmentation, class weights,
steps, optimiser and schedule, and is measured on the run's validation images at the run's size,
all by the same code as ours and in float32. It is one network for all domains, with as many
classes as these have together, of which each domain's loss sees its own: a shared backbone and a
classifier a domain, as ours is. Further runs in the command are rows to compare with, such as the
same configuration with `model.pretrained=none`.

`--pretrained` begins with the ImageNet weights that the peer's package downloads. Without a
network, --lraspp-on-ours is what comes nearest: torchvision's LR-ASPP head on the backbone of the
run's encoder, with the ImageNet weights that the run began with.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
import json
from pathlib import Path
import sys
import time

from lightning_fabric import Fabric
import numpy as np
from safetensors.torch import save_file
import torch
from torch import nn
from univseg_core.batches.curriculum import curriculum
from univseg_core.batches.dataset import DomainData, load_data
from univseg_core.batches.mixture import MixtureDataset
from univseg_core.batches.splits import read_splits
from univseg_core.batches.stores import prepare_stores
from univseg_core.batches.transforms import Augmentation
from univseg_core.benchmarking.peers import PeerNetwork, PEERS
from univseg_core.datasets.folders import read_sample
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.inference.full_resolution import top_classes
from univseg_core.inference.model_names import RUN_MODEL
from univseg_core.measuring.evaluation import as_dict, DomainResult, measure
from univseg_core.method.objectives import masked_cross_entropy
from univseg_core.models.encoders import build_encoder
from univseg_core.models.model_file import load_model
from univseg_core.models.normalisation import IMAGENET, Normalisation
from univseg_core.models.pretrained import load_imagenet
from univseg_core.models.timm_encoder import import_timm, plan_of, spec_of, timm_normalisation
from univseg_core.models.universal import upsample
from univseg_core.pictures.images import fit_size, resize_image
from univseg_core.progress import progress_bar
from univseg_core.settings.config import load_config, RunConfig
from univseg_core.training.class_balance import class_weights
from univseg_core.training.optimisation import new_optimizer, new_scheduler
from univseg_core.training.processes import new_fabric
from univseg_core.training.run_context import RunContext


@dataclass
class Candidate:
    """A peer with the classes of all domains: which channels are each one's, and its weights."""

    network: PeerNetwork
    channels: Mapping[str, slice]
    normalisation: Normalisation = IMAGENET
    pretrained: bool = False

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, C, h, w) of all domains of images (B, 3, H, W), 0..255."""
        mean, std = (255 * torch.tensor(values, device=images.device).view(1, 3, 1, 1)
                     for values in (self.normalisation.mean, self.normalisation.std))
        return self.network((images - mean) / std)


class LowAndHigh(nn.Module):
    """A backbone of timm that gives its maps by the names that LR-ASPP's head takes."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the maps at strides 8 and 16 of normalised images (B, 3, H, W)."""
        low, high = self.backbone(images)
        return {'low': low, 'high': high}


def lraspp_on(name: str, classes: int) -> PeerNetwork:
    """
    Return LR-ASPP's head on an encoder's backbone with ImageNet weights.

    As in torchvision's network, the last stage is dilated, so that the maps are at 8 and 16.
    """
    from torchvision.models.segmentation.lraspp import LRASPPHead
    encoder, plan = build_encoder(name, stride=8), plan_of(name, 8)
    load_imagenet(encoder, name)
    backbone = import_timm(name).create_model(
        spec_of(name).architecture, features_only=True, output_stride=16,
        out_indices=(plan.levels[0], plan.levels[-1]), **plan.options)
    backbone.load_state_dict(encoder.backbone.state_dict())
    low, high = backbone.feature_info.channels()
    return PeerNetwork(LowAndHigh(backbone), LRASPPHead(low, high, classes, 128), stride=8)


def shares(domains: Mapping[str, Domain]) -> dict[str, slice]:
    """Return the channels of each domain where one network has those of all."""
    stops = np.cumsum([len(domain.classes) for domain in domains.values()]).tolist()
    return {name: slice(stop - len(domain.classes), stop)
            for (name, domain), stop in zip(domains.items(), stops, strict=True)}


def train(candidate: Candidate, config: RunConfig, data: Mapping[str, DomainData],
          fabric: Fabric, steps: int, title: str) -> None:
    """Train a peer as the run's own network was: by its labelled images' batches and settings."""
    settings, options, objective = config.training, config.data, config.objective
    stores = prepare_stores(data, options.image_size, unlabelled=False)
    context = RunContext(config, fabric, stores, workers=0)
    weights = class_weights(context, list(data), objective.class_balance)
    augmentation = Augmentation(options.crop_size, options.scale, options.flip, options.colour)
    mixture = MixtureDataset(stores.labelled, {}, curriculum(augmentation, options.curriculum,
                                                             steps),
                             options.labelled_per_domain, 0, settings.seed)
    network = candidate.network.train().to(fabric.device, memory_format=torch.channels_last)
    optimizer = new_optimizer(settings, network,
                              network.backbone if candidate.pretrained else None)
    scheduler = new_scheduler(settings, optimizer, steps)
    with closing(mixture.batches(0, steps, 0)) as batches, progress_bar(
            batches, title, steps, unit='step') as bar:
        for [piece] in bar:
            batch = piece.to(fabric.device)
            logits = candidate.logits(batch.images)
            loss = sum(masked_cross_entropy(
                upsample(logits[rows, candidate.channels[name]], batch.images.shape[-2:],
                         network.stride),
                batch.targets[rows], class_weights=weights.get(name))
                for name, rows in batch.labelled.items())
            if not loss.isfinite():
                raise UnivsegError(f'{title}: the loss is no longer finite')
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            bar.set_postfix_str(f'loss {loss:.3f}')


@torch.inference_mode()
def masks(candidate: Candidate, data: DomainData, image_size: int | None
          ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the mask and truth (H, W) uint8 of each of a domain's validation images."""
    for sample in progress_bar(data.validation, f'evaluate {data.domain.name}', leave=False):
        image, truth = read_sample(sample, data.domain)
        seen = fit_size(*image.shape[:2], image_size)
        pixels = torch.from_numpy(resize_image(image, *seen)).permute(2, 0, 1)[None].float()
        device = next(candidate.network.parameters()).device
        logits = candidate.logits(pixels.to(device))[0, candidate.channels[data.domain.name]]
        mask, _ = top_classes(logits.float().cpu().numpy(), seen, image.shape[:2],
                              candidate.network.stride)
        yield mask, truth


def evaluated(candidate: Candidate, data: Mapping[str, DomainData], image_size: int | None
              ) -> dict[str, DomainResult]:
    """Return a peer's result on each domain's validation images."""
    candidate.network.eval()
    return {name: measure(d.domain, masks(candidate, d, image_size)) for name, d in data.items()}


def row(title: str, begins: str, parameters: int, mious: Sequence[float], minutes: str) -> str:
    """Return a line of the table."""
    cells = ' | '.join(f'{100 * miou:.1f}' for miou in (*mious, sum(mious)))
    return f'| {title} | {begins} | {parameters / 1e6:.1f} | {cells} | {minutes} |'


def row_of_run(run: Path, names: Sequence[str]) -> str:
    """Return the line of a finished run of ours."""
    network, card = load_model(run / RUN_MODEL)
    if missing := [name for name in names if name not in card.miou]:
        raise UnivsegError(f'{run}: its model was not measured on {", ".join(missing)}')
    heads = [network.head(name) for name in names]
    parameters = sum(p.numel() for part in (network.encoder, *heads) for p in part.parameters())
    return row(f'ours: {network.spec.encoder}, stride {network.stride}',
               'ImageNet weights' if network.began_with else 'random weights', parameters,
               [card.miou[name] for name in names], '')


def candidates(options: argparse.Namespace, config: RunConfig,
               domains: Mapping[str, Domain]) -> Iterator[tuple[str, Candidate]]:
    """Yield the title of each peer and the peer, built where it comes to its turn."""
    channels, encoder = shares(domains), config.model.encoder
    classes = sum(len(domain.classes) for domain in domains.values())
    for name in options.peers:
        torch.manual_seed(config.training.seed)
        network = PEERS[name].build(classes, pretrained=options.pretrained)
        yield name, Candidate(network, channels, pretrained=options.pretrained)
    if options.lraspp_on_ours:
        torch.manual_seed(config.training.seed)
        yield f'LR-ASPP on {encoder}', Candidate(
            lraspp_on(encoder, classes), channels, timm_normalisation(encoder), True)


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', type=Path, nargs='+', metavar='RUN',
                        help='folders of finished runs; the first says what peers learn from')
    parser.add_argument('--peers', nargs='*', choices=PEERS, metavar='NAME',
                        default=['lraspp_mobilenet_v3_large'],
                        help=f'some of {", ".join(PEERS)} (default: lraspp_mobilenet_v3_large)')
    parser.add_argument('--pretrained', action='store_true',
                        help="begin with the ImageNet weights that the peer's package downloads")
    parser.add_argument('--lraspp-on-ours', action='store_true',
                        help="train LR-ASPP on the run's own backbone and ImageNet weights, too")
    parser.add_argument('--steps', type=int, help="(default: the run's)")
    parser.add_argument('--threads', type=int, default=1, help='(default: %(default)s)')
    parser.add_argument('--out', type=Path, metavar='FOLDER',
                        help='keep NAME.safetensors and NAME.json of each peer there')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = options.runs[0]
    config = load_config(str(run / 'config.yaml'))
    data = load_data(config, read_splits(run / 'splits.json'))
    domains, fabric = {name: d.domain for name, d in data.items()}, new_fabric(config.training)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    print(f'| network | begins with | parameters (M) | {" | ".join(data)} | sum | minutes |\n'
          f'|---|---|--:|{"--:|" * len(data)}--:|--:|')
    for each in options.runs:
        print(row_of_run(each, list(data)), flush=True)
    for title, candidate in candidates(options, config, domains):
        began = time.monotonic()
        train(candidate, config, data, fabric, options.steps or config.training.steps, title)
        minutes = (time.monotonic() - began) / 60
        results = evaluated(candidate, data, config.data.image_size)
        if options.out:
            name = title.replace(' ', '_')
            candidate.network.to(memory_format=torch.contiguous_format)
            save_file(candidate.network.state_dict(), options.out / f'{name}.safetensors')
            (options.out / f'{name}.json').write_text(json.dumps(as_dict(results), indent=1),
                                                      encoding='utf-8')
        print(row(title, 'ImageNet weights' if candidate.pretrained else 'random weights',
                  sum(p.numel() for p in candidate.network.parameters()),
                  [result.miou for result in results.values()], f'{minutes:.0f}'), flush=True)


if __name__ == '__main__':
    try:
        main()
    except UnivsegError as error:
        sys.exit(str(error))
