"""A step's losses: those of the whole batch, however many pieces and processes share it."""

from lightning_fabric import Fabric
import pytest
from tiny_worlds import INDOOR, OUTDOOR, small_network
import torch
from univseg_core.batches.mixture import Batch
from univseg_core.method.objectives import entropy, masked_cross_entropy, similarity, valid_cells
from univseg_core.models.universal import upsample
from univseg_core.settings.objective import ObjectiveSection
from univseg_core.training.step import batch_losses, forward_and_backward, step_counts

FABRIC = Fabric(accelerator='cpu', devices=1)
LABELLED_ROWS = {'outdoor': slice(0, 2), 'indoor': slice(2, 4)}
UNLABELLED_ROWS = {'outdoor': slice(4, 6), 'indoor': slice(6, 7)}


def close(value, expected, **options):
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6, **options)


def batch_of(unlabelled):
    generator = torch.manual_seed(0)
    images = torch.randint(0, 256, (7, 3, 24, 40), generator=generator).to(torch.uint8)
    targets = torch.randint(0, 2, (7, 24, 40), generator=generator).to(torch.uint8)
    targets[:, 16:], targets[4:, :16] = 255, 0
    return Batch(images, targets, LABELLED_ROWS, unlabelled)


def network_with_labels(per_class=1):
    network = small_network()
    for seed, domain in enumerate((OUTDOOR, INDOOR)):
        count = per_class * len(domain.classes)
        vectors = torch.randn(count, 8, generator=torch.manual_seed(seed))
        network.set_label_embeddings(domain.name, torch.nn.functional.normalize(vectors))
    return network


@pytest.mark.parametrize(('warmup', 'step', 'rise'), [
    (0, 1, 1), (10, 5, 0.5), (10, 500, 1)])
@pytest.mark.parametrize('unlabelled', [['outdoor', 'indoor'], ['outdoor']])
def test_a_batchs_losses(unlabelled, warmup, step, rise):
    """
    Supervised, cross and within terms of the rows that they belong to, padding left out.

    A domain without unlabelled images still lends its labels to the others' cross term.
    """
    network = network_with_labels()
    batch = batch_of({name: UNLABELLED_ROWS[name] for name in unlabelled})
    objective = ObjectiveSection(alpha=0.3, beta=0.7, warmup_steps=warmup)
    with torch.no_grad():
        counts = step_counts(FABRIC, [batch], objective, 8)
        loss, values = batch_losses(network, batch, counts, objective, step)
        logits, embeddings, of_labelled, features, *_ = network(batch.images, batch.labelled,
                                                                batch.unlabelled)
        supervised = sum(masked_cross_entropy(logits[name], batch.targets[LABELLED_ROWS[name]])
                         for name in LABELLED_ROWS)
        entropies = {(i, j): entropy(similarity(embeddings[i], network.label_embeddings(j)),
                                     valid_cells(batch.targets, 8)[UNLABELLED_ROWS[i]])
                     for i in unlabelled for j in ('outdoor', 'indoor')}
    within = sum(value for (i, j), value in entropies.items() if i == j)
    cross = sum(value for (i, j), value in entropies.items() if i != j)
    close(values['supervised'], supervised)
    close(values['within_entropy'], within)
    close(values['cross_entropy'], cross)
    close(loss, supervised + rise * (0.3 * cross + 0.7 * within))
    pixels = torch.cat([each.permute(0, 2, 3, 1).reshape(-1, 8) for each in (
        *embeddings.values(), *of_labelled.values())])
    close(values['embedding_norm'], pixels.norm(dim=1).mean() * len(pixels) / (7 * 15))
    for name in unlabelled:
        scores = similarity(embeddings[name], network.label_embeddings(name))
        valid = valid_cells(batch.targets, 8)[UNLABELLED_ROWS[name]]
        nearest = torch.bincount(scores.argmax(1)[valid], minlength=scores.shape[1])
        close(values[f'nearest/{name}'], nearest / valid.sum())
    close(values['feature_norm'], features.norm(dim=1).mean())
    assert values['images'] == 7
    assert sum(key.startswith('entropy/') for key in values) == len(entropies)
    for (i, j), value in entropies.items():
        close(values[f'entropy/{i}/{j}'], value)


@pytest.mark.parametrize('absent', [False, True])
@pytest.mark.parametrize('per_class', [1, 3])
@pytest.mark.parametrize('similarity_form', ['dot_product', 'cosine'])
def test_the_anchor_holds_labelled_cells_to_their_class(similarity_form, per_class, absent):
    """Its loss and the accuracy, written as a loop over cells; one class may have none."""
    network, batch = network_with_labels(per_class), batch_of(UNLABELLED_ROWS)
    if absent:
        vectors = network.label_embeddings('outdoor').clone()
        vectors[per_class:2 * per_class] = 0
        network.set_label_embeddings('outdoor', vectors)
    objective = ObjectiveSection(alpha=0, beta=0, anchor=2, similarity=similarity_form,
                                 temperature=0.5)
    with torch.no_grad():
        loss, values = batch_losses(network, batch,
                                    step_counts(FABRIC, [batch], objective, 8), objective, 1)
        features = network.features(batch.images)
    expected = 0
    for name, rows in LABELLED_ROWS.items():
        embeddings, labels = network.embed(features[rows]), network.label_embeddings(name)
        if similarity_form == 'cosine':
            embeddings = embeddings / embeddings.norm(dim=1, keepdim=True)
        cells, images = [], []
        of_class = torch.arange(len(labels)) // per_class
        there = labels.any(1)
        for image, target in zip(embeddings, batch.targets[rows], strict=True):
            each = [((labels @ image[:, y, x] / 0.5).masked_fill(~there, -torch.inf).softmax(0),
                     target[8 * y, 8 * x].item())
                    for y in range(3) for x in range(5) if target[8 * y, 8 * x] != 255]
            known = [-p[of_class == c].sum().log() for p, c in each if there[of_class == c].all()]
            images.append(sum(known) / len(known))
            cells += each
        expected += sum(images) / len(images)
        hits = [p.argmax().item() // per_class == c for p, c in cells]
        close(values[f'prototype_accuracy/{name}'], torch.tensor(sum(hits) / len(hits)))
        shares = [sum(c == k for _, c in cells) / len(cells)
                  for k in range(len(labels) // per_class)]
        close(values[f'labels/{name}'], torch.tensor(shares))
    close(values['anchor'], expected)
    close(loss, values['supervised'] + 2 * expected)


def test_the_entropy_at_full_resolution_is_that_of_upsampled_similarities():
    network, batch = network_with_labels(), batch_of(UNLABELLED_ROWS)
    objective = ObjectiveSection(alpha=1, beta=1, full_resolution=True)
    with torch.no_grad():
        counts = step_counts(FABRIC, [batch], objective, 8)
        _, values = batch_losses(network, batch, counts, objective, 1)
        embeddings = network(batch.images, batch.labelled, batch.unlabelled).embeddings
        scores = {(i, j): upsample(similarity(embeddings[i], network.label_embeddings(j)),
                                   (24, 40), 8) for i in embeddings for j in embeddings}
    for (i, j), each in scores.items():
        valid = batch.targets[UNLABELLED_ROWS[i]] != 255
        close(values[f'entropy/{i}/{j}'], entropy(each, valid))
        mean = each.softmax(1).permute(0, 2, 3, 1)[valid].mean(0)
        close(values[f'assignment/{i}/{j}'], mean)


def test_a_batch_without_unlabelled_images_has_the_supervised_loss():
    batch, objective = batch_of({}), ObjectiveSection()
    loss, values = batch_losses(network_with_labels(), batch,
                                step_counts(FABRIC, [batch], objective, 8), objective, 1)
    assert loss == values['supervised'] > 0
    assert values['cross_entropy'] == values['within_entropy'] == 0
    assert 'anchor' not in values


def rows_of(batch, chosen):
    """Return a batch of some of a batch's rows."""
    def those_of(parts):
        kept = {}
        for name, rows in parts.items():
            before = sum(row < rows.start for row in chosen)
            count = sum(rows.start <= row < rows.stop for row in chosen)
            kept[name] = slice(before, before + count)
        return kept
    return Batch(batch.images[chosen], batch.targets[chosen], those_of(batch.labelled),
                 those_of(batch.unlabelled))


@pytest.mark.parametrize('chosen', [
    [[0, 1, 2, 3, 4, 5, 6]], [[0, 2, 4, 6], [1, 3, 5]], [[0, 3, 6], [1, 4], [2, 5]],
    [[row] for row in range(7)]], ids=len)
def test_pieces_add_up_to_the_whole_batch(chosen):
    """Losses and gradients, also where a piece has nothing of a domain or of the labels."""
    batch, objective = batch_of(UNLABELLED_ROWS), ObjectiveSection(alpha=0.3, beta=0.7, anchor=0.2)
    batch.targets[1] = 255  # an image without a label counts nowhere

    def step(pieces):
        network = network_with_labels()  # in evaluation mode: batch norm sees no batch
        optimizer = torch.optim.SGD(network.parameters())
        model, _ = FABRIC.setup(network, optimizer)
        values = forward_and_backward(FABRIC, model, pieces, objective, 1)
        return values, {name: p.grad for name, p in network.named_parameters()}

    values, gradients = step([rows_of(batch, rows) for rows in chosen])
    whole_values, whole_gradients = step([batch])
    assert values.keys() == whole_values.keys()
    for key, value in values.items():
        close(value, whole_values[key], msg=lambda text, key=key: f'{key}: {text}')
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, whole_gradients[name], rtol=1e-4, atol=1e-6)


def test_losses_are_divided_by_what_all_processes_have():
    """As if three more processes had the same batch: a share is a quarter of the whole."""
    batch = batch_of(UNLABELLED_ROWS)
    objective = ObjectiveSection(alpha=0.3, beta=0.7, anchor=0.2)
    network, counts = network_with_labels(), step_counts(FABRIC, [batch], objective, 8)
    everywhere = step_counts(FABRIC, 4 * [batch], objective, 8)
    loss, values = batch_losses(network, batch, counts, objective, 1)
    share, shared_values = batch_losses(network, batch, everywhere, objective, 1)
    close(share * 4, loss)
    for key in values.keys() - {'images'}:
        close(shared_values[key] * 4, values[key])
