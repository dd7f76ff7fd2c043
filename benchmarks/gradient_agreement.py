"""
Measure whether an unsupervised term pulls the encoder where the truth would, as a Markdown table.

    python benchmarks/gradient_agreement.py runs/camvid_nyuv2

Of a finished run, and of training images whose labels it was not shown: the gradient of each term
on some of them, and the gradient of the cross-entropy with the truth on others, both in all the
encoder's parameters, in evaluation mode. Their cosine says how a small step by the term changes
the loss on images of which the run knows nothing: 1 where it is as good as labels, 0 where it
does nothing, less where it does harm. The model's logits are divided by a temperature first that
is fitted to the truth, for each domain: what is measured is whether a term moves answers to where
they are right, not whether it makes a model surer, which few labels have made too sure. Two
directions that have nothing to do with each other have some 0.001, of so many parameters. Rows
are terms. For each domain whose images the term sees: the cosine with the truth of that domain,
of the mean gradient over all images and, in brackets, of that of a batch, mean and standard error
over the batches; and the cosine with the truth of the other domains.

`dot` and `cosine` are the paper's entropies (Eq 3, 4) by two similarities, `random E` by the
embedding and the label embeddings of the model, `joint E` by principal components of the model's
features of all domains; `sure` of cells that the head is at least --sure of, `corresponding` of
cells of classes that have a counterpart in the other domain (each the other's nearest label
embedding). `teacher` is the consistency of mixed images, `neighbour` the same against what the
other domain's head makes of cells that it takes for a class with a counterpart.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from univseg_core.batches.cut_mix import cut_mix, mixing_groups, random_box
from univseg_core.batches.labelled_images import run_samples
from univseg_core.batches.parts import samples_of, with_labels
from univseg_core.datasets.folders import read_sample, Sample
from univseg_core.domains import IGNORE_INDEX
from univseg_core.method.label_embeddings import principal_label_embeddings
from univseg_core.method.objectives import (
    cell_targets,
    consistency_loss,
    entropy,
    similarity,
    valid_cells,
)
from univseg_core.models.model_file import load_model
from univseg_core.models.universal import UniversalSegmenter
from univseg_core.pictures.images import fit_size, resize_image, resize_label
from univseg_core.progress import progress_bar
from univseg_core.settings.config import load_config, RunConfig

TAU = 0.1
"""Temperature of cosine similarities."""


@dataclass
class Space:
    """An embedding E of features, and the label embeddings (C, D) of each domain in it."""

    embed: nn.Conv2d
    labels: dict[str, torch.Tensor]

    def counterparts(self, i: str, j: str) -> torch.Tensor:
        """Return for each class of i the class of j that is its mutual nearest, or -1."""
        cosines = self.labels[i] @ self.labels[j].T
        there, back = cosines.argmax(1), cosines.argmax(0)
        mutual = back[there] == torch.arange(len(there))
        return torch.where(mutual, there, -1)


@dataclass
class Seen:
    """A batch of a domain's images, and what the model makes of them."""

    model: UniversalSegmenter
    domain: str
    others: list[str]
    images: torch.Tensor
    targets: torch.Tensor
    spaces: dict[str, Space]
    sure_from: float
    temperature: float
    generator: np.random.Generator

    def __post_init__(self):
        self.features = self.model.features(self.images)
        self.logits = self.model.logits(self.features, self.domain) / self.temperature
        self.cells = valid_cells(self.targets, self.model.stride)

    @property
    def answers(self) -> torch.Tensor:
        """Return the head's probabilities (B, C, h, w), without gradients."""
        return self.logits.detach().softmax(1)

    def truth(self) -> torch.Tensor:
        """Return the cross-entropy with the labels, of cells."""
        return F.cross_entropy(self.logits, cell_targets(self.targets, self.model.stride).long(),
                               ignore_index=IGNORE_INDEX)

    def head_entropy(self) -> torch.Tensor:
        """Return the entropy of the head's own answers."""
        return entropy(self.logits, self.cells)

    def within(self, space: str, cosine: bool, sure: bool = False) -> torch.Tensor:
        """Return the within-domain entropy (Eq 4)."""
        return entropy(self._scores(space, self.domain, cosine),
                       self._sure() if sure else self.cells)

    def cross(self, space: str, cosine: bool, sure: bool = False,
              corresponding: bool = False) -> torch.Tensor:
        """Return the cross-domain entropy (Eq 3)."""
        total = self.logits.new_zeros(())
        for j in self.others:
            cells = self._sure() if sure else self.cells
            if corresponding:
                has_one = self.spaces[space].counterparts(self.domain, j) >= 0
                cells = cells & has_one[self.answers.argmax(1)]
            total = total + entropy(self._scores(space, j, cosine), cells)
        return total / len(self.others)

    def anchor(self, space: str) -> torch.Tensor:
        """Return the cross-entropy of cells with their class's label embedding, by the truth."""
        return F.cross_entropy(self._scores(space, self.domain, True),
                               cell_targets(self.targets, self.model.stride).long(),
                               ignore_index=IGNORE_INDEX)

    def teacher(self) -> torch.Tensor:
        """Return the consistency of mixed images with the answers for them unmixed."""
        return self._consistency(self.answers, self.cells)

    def neighbour(self) -> torch.Tensor:
        """Return the same with answers of another domain's head, where classes correspond."""
        own, j = self.answers, self.others[0]
        with torch.no_grad():
            theirs = (self.model.logits(self.features, j) / self.temperature).softmax(1)
        pairs = self.spaces['joint'].counterparts(self.domain, j)
        answers = torch.zeros_like(own)
        answers[:, pairs >= 0] = theirs[:, pairs[pairs >= 0]]
        mass = answers.sum(1)
        return self._consistency(answers / mass[:, None].clamp(min=1e-6),
                                 self.cells & (mass >= self.sure_from))

    def _consistency(self, answers: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        count = len(self.images)
        boxes = [random_box(answers.shape[2:], self.generator) for _ in range(count)]
        images = self.images.permute(0, 2, 3, 1).numpy()
        mixed, _, mix = cut_mix(images, self.targets.numpy(), boxes, mixing_groups(count),
                                self.model.stride)
        features = self.model.features(torch.from_numpy(mixed).permute(0, 3, 1, 2))
        counted = mix.of_cells(valid[:, None].float())[:, 0] > 0
        logits = self.model.logits(features, self.domain) / self.temperature
        return consistency_loss(logits, mix.of_cells(answers), counted)

    def _sure(self) -> torch.Tensor:
        return self.cells & (self.answers.amax(1) >= self.sure_from)

    def _scores(self, space: str, j: str, cosine: bool) -> torch.Tensor:
        there = self.spaces[space]
        return similarity(there.embed(self.features), there.labels[j], cosine=cosine,
                          temperature=TAU if cosine else 1.0)


TERMS: dict[str, Callable[[Seen], torch.Tensor]] = {
    'the truth of these images': Seen.truth,
    'teacher': Seen.teacher,
    'neighbour': Seen.neighbour,
    "entropy of the head's answers": Seen.head_entropy,
    'within, dot, random E': lambda seen: seen.within('random', False),
    'within, dot, joint E': lambda seen: seen.within('joint', False),
    'within, cosine, joint E': lambda seen: seen.within('joint', True),
    'within, cosine, joint E, sure': lambda seen: seen.within('joint', True, sure=True),
    'cross, dot, random E': lambda seen: seen.cross('random', False),
    'cross, dot, joint E': lambda seen: seen.cross('joint', False),
    'cross, cosine, joint E': lambda seen: seen.cross('joint', True),
    'cross, cosine, joint E, sure': lambda seen: seen.cross('joint', True, sure=True),
    'cross, cosine, joint E, sure, corresponding': lambda seen: seen.cross(
        'joint', True, sure=True, corresponding=True),
}
LABELLED_TERMS: dict[str, Callable[[Seen], torch.Tensor]] = {
    'the labels that it learned from': Seen.truth,
    'anchor, cosine, joint E': lambda seen: seen.anchor('joint'),
}


def main() -> None:
    """Measure all terms, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('run', type=Path, help='a finished run')
    parser.add_argument('--images', type=int, default=64,
                        help='of each domain, for the truth and as many for the terms')
    parser.add_argument('--batch', type=int, default=4, help='images of a gradient')
    parser.add_argument('--sure', type=float, default=0.9, help='least probability of sure cells')
    parser.add_argument('--seed', type=int, default=0, help='of the choice of images and boxes')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = load_config(options.run / 'config.yaml')
    model, _ = load_model(options.run / 'model.univseg')
    model.eval()
    generator = np.random.default_rng(options.seed)
    shown = {name: run_samples(options.run, name) for name in config.domains}
    hidden = {name: _hidden(config, name, shown[name], generator) for name in config.domains}
    spaces = _spaces(model, config, shown)
    truth, per_term = {}, {}
    for name in config.domains:
        first, second = (hidden[name][:options.images],
                         hidden[name][options.images:2 * options.images])
        temperature = _temperature(model, config, name, first)

        def gradients(samples: Sequence[Sample], terms: dict, name: str = name,
                      temperature: float = temperature) -> dict:
            found: dict[str, list[torch.Tensor]] = {term: [] for term in terms}
            others = [other for other in config.domains if other != name]
            for images, targets in _batches(config, name, samples, options.batch):
                seen = Seen(model, name, others, images, targets, spaces, options.sure,
                            temperature, generator)
                for term, of in terms.items():
                    found[term].append(_gradient(of(seen), model.encoder))
            return {term: torch.stack(each) for term, each in found.items()}

        truth[name] = gradients(first, {'truth': Seen.truth})['truth'].mean(0)
        per_term[name] = gradients(second, TERMS) | gradients(
            shown[name][:options.images], LABELLED_TERMS)
    _print_table(truth, per_term)


def _hidden(config: RunConfig, name: str, shown: Sequence[Sample],
            generator: np.random.Generator) -> list[Sample]:
    learned = {sample.image for sample in shown}
    samples = [sample for sample in with_labels(samples_of(name, config.domains[name], 'train'))
               if sample.image not in learned]
    return [samples[i] for i in generator.permutation(len(samples))]


@torch.no_grad()
def _temperature(model: UniversalSegmenter, config: RunConfig, name: str,
                 samples: Sequence[Sample]) -> float:
    """Return the temperature of a domain's logits at which the truth is likeliest."""
    temperatures = np.geomspace(0.5, 8, 41)
    losses = np.zeros(len(temperatures))
    for images, targets in _batches(config, name, samples, 4):
        logits = model.logits(model.features(images), name)
        cells = cell_targets(targets, model.stride).long()
        losses += [F.cross_entropy(logits / each, cells, ignore_index=IGNORE_INDEX).item()
                   for each in temperatures]
    return float(temperatures[losses.argmin()])


def _read(config: RunConfig, name: str, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    image, label = read_sample(sample, config.domain(name))
    height, width = fit_size(*image.shape[:2], config.data.image_size)
    return resize_image(image, height, width), resize_label(label, height, width)


def _spaces(model: UniversalSegmenter, config: RunConfig, shown: dict[str, list[Sample]]
            ) -> dict[str, Space]:
    labels, projection = principal_label_embeddings(
        model, {name: (_read(config, name, sample) for sample in samples)
                for name, samples in shown.items()}, model.spec.embedding_dim)
    joint = nn.Conv2d(model.encoder.out_channels, model.spec.embedding_dim, 1)
    with torch.no_grad():
        joint.weight.copy_(projection.directions.T[:, :, None, None])
        joint.bias.copy_(-projection.mean @ projection.directions)
    return {'random': Space(model.embedding,
                            {name: model.label_embeddings(name) for name in config.domains}),
            'joint': Space(joint, labels)}


def _batches(config: RunConfig, name: str, samples: Sequence[Sample], size: int
             ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for first in progress_bar(range(0, len(samples) - size + 1, size), leave=False):
        images, labels = zip(*(_read(config, name, sample)
                               for sample in samples[first:first + size]), strict=True)
        yield (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
               torch.from_numpy(np.stack(labels)))


def _gradient(term: torch.Tensor, encoder: nn.Module) -> torch.Tensor:
    parameters = [each for each in encoder.parameters() if each.requires_grad]
    found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return torch.cat([(torch.zeros_like(each) if grad is None else grad).flatten()
                      for each, grad in zip(parameters, found, strict=True)])


def _print_table(truth: dict[str, torch.Tensor], per_term: dict[str, dict[str, torch.Tensor]]
                 ) -> None:
    print('| term | ' + ' | '.join(f'{name}: own truth | others' for name in truth) + ' |')
    print('|---|' + '--:|--:|' * len(truth))
    for term in {**LABELLED_TERMS, **TERMS}:
        cells = []
        for name in truth:
            gradients = per_term[name][term]
            mean = gradients.mean(0)
            each = torch.stack([F.cosine_similarity(gradient, truth[name], dim=0)
                                for gradient in gradients])
            error = each.std() / len(each) ** 0.5
            others = [F.cosine_similarity(mean, truth[other], dim=0).item()
                      for other in truth if other != name]
            cells += [f'{F.cosine_similarity(mean, truth[name], dim=0).item():+.3f} '
                      f'({each.mean().item():+.3f} ± {error.item():.3f})',
                      ', '.join(f'{other:+.3f}' for other in others)]
        print(f'| {term} | ' + ' | '.join(cells) + ' |')


if __name__ == '__main__':
    main()
