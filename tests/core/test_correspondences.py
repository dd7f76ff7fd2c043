"""Which classes are like which: worked by hand, and beside a plain reference."""

import csv
import io
import json

import numpy as np
import pytest
from tiny_worlds import INDOOR, OUTDOOR, small_network
import torch
from univseg_core.datasets.folders import labelled_samples, read_sample
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.inference.segmenter import Segmenter
from univseg_core.measuring.correspondences import (
    centred,
    Correspondence,
    CorrespondenceError,
    cosines,
    count_pairs,
    measure_correspondences,
    nearest,
)
from univseg_core.method.pixel_statistics import ClassMeans
from univseg_core.models.model_file import ModelCard
from univseg_core.pictures.images import write_png
from univseg_core.reporting.correspondence_report import as_csv, as_dict, as_markdown, mutual

VOID, NAN = 255, float('nan')
YARD = Domain.create('yard', ['grass', 'shed'])


def class_means(vectors, shares):
    """Return ClassMeans of one image of 1×n cells, from lists of channels and of classes."""
    means = ClassMeans(len(shares), len(vectors))
    means.update(torch.tensor(vectors).double(), torch.tensor(shares).double())
    return means


def test_class_means_are_weighted_by_the_shares_of_cells():
    """
    Cells (1, 0), (3, 0), (0, 8); class 0 has all of the first, half of the second.

    Class 0: ((1, 0) + ½·(3, 0)) / 1.5 = (5/3, 0). Class 1: (½·(3, 0) + ½·(0, 8)) / 1 = (1.5, 4).
    Class 2 has no pixel. All pixels: ((1, 0) + (3, 0) + ½·(0, 8)) / 2.5 = (1.6, 1.6).
    """
    means = class_means([[1, 3, 0], [0, 0, 8]], [[1, 0.5, 0], [0, 0.5, 0.5], [0, 0, 0]])
    np.testing.assert_allclose(means.centroids()[:, 0], [[5 / 3, 0], [1.5, 4], [NAN, NAN]])
    np.testing.assert_allclose(means.mean(), [1.6, 1.6])


def test_class_means_of_two_images_are_those_of_both_together():
    one = class_means([[1, 2, 6]], [[1, 0, 1], [0, 1, 0]])
    two = class_means([[1]], [[1], [0]])
    two.update(torch.tensor([[2., 6.]]).double(), torch.tensor([[0, 1.], [1., 0]]).double())
    np.testing.assert_array_equal(two.centroids(), one.centroids())


def test_the_common_mean_gives_every_domain_the_same_weight():
    """
    Domain a: three cells of class 0 at 0 and one at 4, mean 1. Domain b: one cell at 5.

    The middle is (1 + 5) / 2 = 3, and not the mean of five cells, 9/5.
    """
    means = {'a': class_means([[0, 0, 0, 4]], [[1, 1, 1, 0], [0, 0, 0, 1]]),
             'b': class_means([[5]], [[1]])}
    seen = centred(means)
    np.testing.assert_allclose(seen['a'], [[-3], [1]])
    np.testing.assert_allclose(seen['b'], [[2]])


def test_cosines_worked_by_hand():
    """(3, 4) has length 5: 3/5 with (2, 0), -4/5 with (0, -1). NaN and zero stay what they are."""
    rows = np.array([[3., 4], [NAN, NAN], [0, 0]])
    np.testing.assert_allclose(cosines(rows, np.array([[2., 0], [0, -1]])),
                               [[0.6, -0.8], [NAN, NAN], [0, 0]])


@pytest.mark.parametrize('row, count, expected', [
    ((0.1, 0.5, -0.2), 2, [1, 0]),
    ((0.1, NAN, -0.2), 3, [0, 2]),
    ((0.3, 0.3), 1, [0]),
    ((NAN, NAN), 3, []),
])
def test_the_nearest_are_the_largest_that_are_there(row, count, expected):
    assert nearest(np.array(row), count) == expected


def test_pairs_of_truth_and_mask_are_counted_without_void():
    truth = np.array([[0, 0, 1], [1, VOID, 0]], np.uint8)
    mask = np.array([[2, 2, 0], [1, 1, VOID]], np.uint8)
    assert count_pairs(truth, mask)[:2, :3].tolist() == [[0, 0, 2], [1, 1, 0]]


@pytest.fixture
def segmenter():
    network = small_network()
    torch.manual_seed(3)
    network.set_label_embeddings('outdoor', torch.randn(6, 8))  # K = 2
    vectors = torch.randn(2, 8)
    network.set_label_embeddings('indoor', vectors)
    return Segmenter(network, ModelCard(image_size=64), device='cpu', precision='fp32')


def validation(worlds, name):
    folder = worlds / name / 'validation'
    return labelled_samples(folder / 'image', folder / 'label')


def test_beside_a_plain_reference(segmenter, worlds):
    """
    The same from all pixels at once: every cell's 64 pixels vote with the cell's vector.

    The tiny worlds' images are 48×64, so that cells are whole, and the network sees them as
    they are.
    """
    samples = {name: validation(worlds, name) for name in ('outdoor', 'indoor')}
    results = measure_correspondences(segmenter, samples)
    pixels, means, middles, masks = {}, {}, {}, {}
    for name, files in samples.items():
        vectors, labels, others = [], [], []
        other = {'outdoor': 'indoor', 'indoor': 'outdoor'}[name]
        for file in files:
            image, label = read_sample(file, segmenter.domains[name])
            encoded = segmenter.encode(image)
            both = np.concatenate([encoded.features, segmenter.embed(encoded)]).astype(float)
            vectors.append(both.repeat(8, 1).repeat(8, 2).reshape(len(both), -1).T)
            labels.append(label.ravel())
            others.append(segmenter.label_embedding_mask(encoded, other).ravel())
        vectors, labels, others = map(np.concatenate, (vectors, labels, others))
        classes = range(len(segmenter.domains[name].classes))
        pixels[name] = [int((labels == c).sum()) for c in classes]
        means[name] = np.array([vectors[labels == c].mean(0) for c in classes])
        middles[name] = vectors[labels != VOID].mean(0)
        masks[name] = np.array([[(others[labels == c] == d).mean() for d in range(
            len(segmenter.domains[other].classes))] for c in classes])
    channels = len(middles['indoor']) - 8
    middle = (middles['outdoor'] + middles['indoor']) / 2
    for (i, j), found in results.items():
        features = [(means[name] - middle)[:, :channels] for name in (i, j)]
        embedding = [means[name][:, channels:] for name in (i, j)]
        assert found.pixels.tolist() == pixels[i]
        np.testing.assert_allclose(found.features, cosines(*features), atol=1e-6)
        np.testing.assert_allclose(found.embedding, cosines(*embedding), atol=1e-6)
        np.testing.assert_allclose(found.shares, masks[i], atol=1e-12)
        np.testing.assert_allclose(found.shares.sum(1), 1)
    assert list(results) == [('outdoor', 'indoor'), ('indoor', 'outdoor')]


def test_three_domains_give_every_ordered_pair(worlds):
    """The yard's images are the indoor ones: it is to outdoor what indoor is."""
    network = small_network(OUTDOOR, INDOOR, YARD)
    for name, domain in network.domains.items():
        torch.manual_seed(0)
        network.set_label_embeddings(name, torch.randn(len(domain.classes), 8))
    segmenter = Segmenter(network, ModelCard(image_size=64), device='cpu', precision='fp32')
    samples = {name: validation(worlds, files) for name, files in (
        ('outdoor', 'outdoor'), ('indoor', 'indoor'), ('yard', 'indoor'))}
    results = measure_correspondences(segmenter, samples)
    assert set(results) == {(i, j) for i in samples for j in samples if i != j}
    for i, j in results:
        np.testing.assert_allclose(results[i, j].features, results[j, i].features.T)
        np.testing.assert_allclose(results[i, j].embedding, results[j, i].embedding.T)
    np.testing.assert_allclose(results['outdoor', 'indoor'].features,
                               results['outdoor', 'yard'].features)
    np.testing.assert_allclose(np.diag(results['yard', 'indoor'].features), 1)


def test_a_class_without_a_pixel_or_label_embedding_is_absent(segmenter, worlds, tmp_path):
    files = validation(worlds, 'outdoor')[:1]
    image, label = read_sample(files[0], OUTDOOR)
    label[label == 2] = VOID
    write_png(tmp_path / 'image/a.png', image)
    write_png(tmp_path / 'label/a.png', label)
    segmenter.label_embeddings('outdoor')[2:4] = 0  # the box
    results = measure_correspondences(segmenter, {
        'outdoor': labelled_samples(tmp_path / 'image', tmp_path / 'label'),
        'indoor': validation(worlds, 'indoor')})
    there, back = results.values()
    assert there.pixels[2] == 0
    for values in (there.features, there.embedding, there.shares):
        assert np.isnan(values).tolist() == [[False] * 2, [False] * 2, [True] * 2]
    assert np.isnan(back.shares).tolist() == [[False, True, False]] * 2
    np.testing.assert_allclose(np.nansum(back.shares, 1), 1)
    text = as_markdown('run', results)
    assert '| ball | absent | | | |' in text
    json.loads(json.dumps(as_dict(results), allow_nan=False))


def test_what_cannot_be_compared_is_told(segmenter, worlds, tmp_path):
    both = {name: validation(worlds, name) for name in ('outdoor', 'indoor')}
    with pytest.raises(CorrespondenceError, match='between domains, and there is only indoor'):
        measure_correspondences(segmenter, {'indoor': both['indoor']})
    bare = Segmenter(small_network(), ModelCard(image_size=64), device='cpu')
    with pytest.raises(UnivsegError, match='no label embeddings of outdoor'):
        measure_correspondences(bare, both)
    image, label = read_sample(both['indoor'][0], INDOOR)
    write_png(tmp_path / 'image/a.png', image)
    write_png(tmp_path / 'label/a.png', np.full_like(label, VOID))
    void = labelled_samples(tmp_path / 'image', tmp_path / 'label')
    with pytest.raises(CorrespondenceError, match='indoor: every pixel of the labels is void'):
        measure_correspondences(segmenter, both | {'indoor': void})


def made(features, embedding=None):
    """Return both directions between outdoor's three classes and indoor's two."""
    features = np.array(features, float)
    embedding = features if embedding is None else np.array(embedding, float)
    shares = np.array([[0.75, 0.25], [0, 1], [0.5, 0.5]])
    return {
        ('outdoor', 'indoor'): Correspondence(OUTDOOR, INDOOR, np.array([4, 2, 2]), features,
                                              embedding, shares),
        ('indoor', 'outdoor'): Correspondence(INDOOR, OUTDOOR, np.array([5, 1]), features.T,
                                              embedding.T, np.array([[1., 0, 0], [0, 0.2, 0.8]])),
    }


RESULTS = made([[0.9, 0.1], [0.3, -0.5], [0.2, 0.4]])


def test_mutual_pairs_are_nearest_in_both_directions():
    """Ground ↔ wall and ball ↔ lamp; the box is nearest to the wall, which is nearer to ground."""
    assert mutual(RESULTS['outdoor', 'indoor']) == [('ground', 'wall', 0.9), ('ball', 'lamp', 0.4)]


def test_the_report_in_words():
    text = as_markdown('first', RESULTS)
    assert text.startswith('# Class correspondences of first\n')
    assert 'outdoor ↔ indoor: ground ↔ wall (0.90), ball ↔ lamp (0.40).' in text
    assert '| box | 2 | wall 0.30, lamp -0.50 | wall 0.30, lamp -0.50 | lamp 100 %, wall 0 % |' \
        in text
    assert '| lamp | 1 | ball 0.40, ground 0.10, box -0.50 |' in text
    assert 'collapsed' not in text


def test_a_collapsed_embedding_is_told():
    text = as_markdown('first', made(np.zeros((3, 2)), np.full((3, 2), 0.995)))
    assert '**The embedding has collapsed**' in text
    assert not made(np.zeros((3, 2)), [[1, 1], [1, 0.98], [1, 1]])['outdoor', 'indoor'
                                                                   ].has_collapsed


def test_the_report_as_csv():
    rows = list(csv.DictReader(io.StringIO(as_csv(RESULTS))))
    assert len(rows) == 3 * (3 * 2 + 2 * 3)  # measures × (classes × their nearest)
    assert rows[0] == {'domain': 'outdoor', 'class': 'ground', 'other_domain': 'indoor',
                       'measure': 'features', 'rank': '1', 'other_class': 'wall',
                       'value': '0.9000'}
    shares = [row for row in rows if (row['class'], row['measure']) == ('lamp', 'shares')]
    assert [(row['rank'], row['other_class'], row['value']) for row in shares] == [
        ('1', 'ball', '0.8000'), ('2', 'box', '0.2000'), ('3', 'ground', '0.0000')]


def test_the_report_as_json():
    there, back = json.loads(json.dumps(as_dict(RESULTS)))
    assert (there['of'], there['in'], back['of'], back['in']) == (
        'outdoor', 'indoor', 'indoor', 'outdoor')
    assert there['features'] == [[0.9, 0.1], [0.3, -0.5], [0.2, 0.4]]
    assert there['pixels'] == [4, 2, 2]
    assert there['nearest']['ball']['features'] == [{'class': 'lamp', 'value': 0.4},
                                                    {'class': 'wall', 'value': 0.2}]
