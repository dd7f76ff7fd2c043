"""From masks to mIoU: worked by hand, and beside scikit-learn."""

from dataclasses import replace
import json

import numpy as np
import pytest
from sklearn.metrics import jaccard_score
from tiny_worlds import INDOOR, OUTDOOR, small_network
import torch
from univseg_core.datasets.folders import labelled_samples, read_sample
from univseg_core.domains import Domain
from univseg_core.inference.cell_entropy import entropy_counts
from univseg_core.inference.segmenter import Segmenter
from univseg_core.measuring import evaluation
from univseg_core.measuring.evaluation import DomainResult, evaluate, measure, report
from univseg_core.models.model_file import ModelCard
from univseg_core.pictures.images import resize_image, resize_label

VOID = 255


def array(*rows):
    return np.array(rows, np.uint8)


def test_two_classes_worked_by_hand():
    """
    Truth 0 0 / 1 1, mask 0 1 / 1 1.

    Class 0: one pixel in both, two in either: 1/2. Class 1: two in both, three in either: 2/3.
    """
    result = measure(INDOOR, [(array([0, 1], [1, 1]), array([0, 0], [1, 1]))])
    assert result.confusion.tolist() == [[1, 1, 0], [0, 2, 0]]
    assert result.iou.tolist() == [1 / 2, 2 / 3]
    assert result.miou == pytest.approx(7 / 12)


def test_three_classes_with_void_worked_by_hand():
    """
    Truth 0 0 1 / 2 void 1, mask 0 2 1 / 2 2 0. The void pixel does not count.

    Class 0: 1 of {0, 0 | 0, 0} = 3 pixels: 1/3. Class 1: 1 of 2: 1/2. Class 2: 1 of 2: 1/2.
    """
    result = measure(OUTDOOR, [(array([0, 2, 1], [2, 2, 0]), array([0, 0, 1], [2, VOID, 1]))])
    assert result.confusion.tolist() == [[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0]]
    assert result.confusion.dtype == np.int64
    assert result.iou.tolist() == [1 / 3, 1 / 2, 1 / 2]
    assert result.miou == pytest.approx(4 / 9)


def test_an_absent_class_is_nan_and_left_out_of_the_mean():
    result = measure(OUTDOOR, [(array([0, 1]), array([0, 0]))])
    np.testing.assert_array_equal(result.iou, [1 / 2, 0, np.nan])
    assert result.miou == 1 / 4


def test_images_count_together_not_each_for_itself():
    """
    Image 1 is all right (4 pixels of class 0), image 2 all wrong (1 pixel of class 0 as 1).

    Together class 0 has 4/5 and class 1 has 0. The mean of the images' own would be 1/2.
    """
    pairs = [(array([0, 0, 0, 0]), array([0, 0, 0, 0])), (array([1]), array([0]))]
    result = measure(INDOOR, pairs)
    assert result.iou.tolist() == [4 / 5, 0]
    assert result.miou == pytest.approx(2 / 5)


@pytest.mark.parametrize('seed', range(5))
def test_iou_is_that_of_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    domain = Domain.create('many', [f'c{i}' for i in range(8)])
    pairs = []
    for size in ((30, 40), (17, 5), (64, 2)):
        truth = generator.choice([0, 1, 2, 3, 5, 6, VOID], size).astype(np.uint8)
        right = generator.random(size) < 0.6
        mask = np.where(right & (truth != VOID), truth, generator.integers(0, 7, size))
        pairs.append((mask.astype(np.uint8), truth))
    result = measure(domain, pairs)
    mask, truth = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    valid = truth != VOID
    expected = jaccard_score(truth[valid], mask[valid], labels=range(7), average=None)
    np.testing.assert_allclose(result.iou[:7], expected, rtol=1e-12)
    assert np.isnan(result.iou[7])
    assert result.miou == pytest.approx(expected.mean(), rel=1e-12)
    assert result.confusion.sum() == valid.sum()


@pytest.mark.parametrize('classes', [1, 255])
def test_the_fewest_and_the_most_classes(classes):
    domain = Domain.create('extreme', [f'c{i}' for i in range(classes)])
    last = classes - 1
    result = measure(domain, [(array([last, 0]), array([last, VOID]))])
    assert result.iou[last] == 1
    assert result.miou == 1


def test_results_are_plain_json_values():
    result = measure(OUTDOOR, [(array([0, 1]), array([0, 0]))])
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == {
        'miou': 0.25, 'iou': {'ground': 0.5, 'box': 0, 'ball': None}}


@pytest.mark.filterwarnings('ignore:Mean of empty slice')
def test_a_domain_without_a_valid_pixel_has_no_figures():
    result = measure(INDOOR, [(array([0, 1]), array([VOID, VOID]))])
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == {
        'miou': None, 'iou': {'wall': None, 'lamp': None}}


def test_a_report_has_every_figure():
    outdoor = DomainResult(OUTDOOR, np.array([[5, 5, 0], [0, 8, 0], [0, 0, 0]]))
    indoor = DomainResult(INDOOR, np.array([[3, 1], [0, 12]]))
    lines = report({'outdoor': outdoor, 'indoor': indoor}).splitlines()
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert ['### outdoor'] in rows
    # ground 5/10, box 8/13, indoor 3/4 and 12/13.
    assert rows.index(['### outdoor']) < rows.index(['ground', '50.0'])
    assert rows.index(['box', '61.5']) < rows.index(['ball', 'absent'])
    assert rows.index(['mIoU', '**55.8**']) < rows.index(['### indoor'])
    assert rows.index(['wall', '75.0']) < rows.index(['lamp', '92.3'])
    assert ['mIoU', '**83.7**'] in rows
    assert lines[-1] == 'Sum of mIoUs: **139.4**'


def test_pixels_of_no_class_are_missed_and_nothing_else():
    """Of 4 pixels of wall two are unknown: 2/4; of lamp one is found: 1/1."""
    result = measure(INDOOR, [(array([0, VOID, VOID, 0, 1]), array([0, 0, 0, 0, 1]))])
    assert result.confusion.tolist() == [[2, 0, 2], [0, 1, 0]]
    assert result.iou.tolist() == [0.5, 1]


def test_a_report_has_the_figures_of_label_embeddings_beside():
    head = DomainResult(INDOOR, np.array([[3, 1], [0, 12]]))
    result = replace(head, by_label_embeddings=DomainResult(INDOOR, np.array([[1, 3], [0, 3]])))
    rows = [[cell.strip() for cell in line.strip('|').split('|')]
            for line in report({'indoor': result}).splitlines()]
    assert ['class', 'IoU %', 'label embeddings %'] in rows
    assert ['wall', '75.0', '25.0'] in rows
    assert ['mIoU', '**83.7**', '**37.5**'] in rows
    assert result.to_dict()['prototypes'] == {'miou': 0.375, 'iou': {'wall': 0.25, 'lamp': 0.5}}


def test_a_report_has_what_was_before_and_the_change():
    """Before: wall 1/4, lamp 3/6 (37.5); now 3/4 and 12/13 (83.7)."""
    result = replace(DomainResult(INDOOR, np.array([[3, 1], [0, 12]])),
                     before=DomainResult(INDOOR, np.array([[1, 3], [0, 3]])))
    rows = [[cell.strip() for cell in line.strip('|').split('|')]
            for line in report({'indoor': result}).splitlines()]
    assert ['class', 'IoU %', 'before %', 'change'] in rows
    assert ['wall', '75.0', '25.0', '+50.0'] in rows
    assert ['mIoU', '**83.7**', '**37.5**', '**+46.2**'] in rows
    assert result.to_dict()['before'] == {'miou': 0.375, 'iou': {'wall': 0.25, 'lamp': 0.5}}
    assert result.to_dict()['change'] == pytest.approx(3 / 8 + 6 / 13 - 3 / 8)


def test_a_change_of_an_absent_class_is_absent():
    result = replace(DomainResult(INDOOR, np.array([[4, 0], [0, 0]])),
                     before=DomainResult(INDOOR, np.array([[4, 0], [0, 1]])))
    lamp, = [line for line in report({'indoor': result}).splitlines() if 'lamp' in line]
    assert [cell.strip() for cell in lamp.split('|')[2:5]] == ['absent', '100.0', 'absent']


def samples_of(worlds, *names):
    return {name: labelled_samples(worlds / name / 'validation' / 'image',
                                   worlds / name / 'validation' / 'label') for name in names}


def test_label_embeddings_are_measured_beside_the_heads(worlds):
    network = small_network()
    for name, domain in network.domains.items():
        network.set_label_embeddings(name, torch.eye(len(domain.classes), 8))
    segmenter = Segmenter(network, ModelCard(), device='cpu', precision='fp32')
    results = evaluate(segmenter, samples_of(worlds, 'indoor'), label_embeddings=True,
                       progress=False)
    pairs = {'head': [], 'own': [], 'all': []}
    for sample in samples_of(worlds, 'indoor')['indoor']:
        image, truth = read_sample(sample, INDOOR)
        encoded = segmenter.encode(image)
        pairs['head'].append((segmenter(image)['indoor'].mask, truth))
        pairs['own'].append((segmenter.label_embedding_mask(encoded, 'indoor'), truth))
        pairs['all'].append((segmenter.label_embedding_mask(encoded, 'indoor',
                                                            ['outdoor', 'indoor']), truth))
    found = results['indoor']
    for result, kind in ((found, 'head'), (found.by_label_embeddings, 'own'),
                         (found.by_all_label_embeddings, 'all')):
        assert np.array_equal(result.confusion, measure(INDOOR, pairs[kind]).confusion)
    assert found.by_all_label_embeddings.confusion[:, -1].sum() > 0  # nearer to classes of outdoor


def test_cells_are_counted_by_their_entropy_where_that_is_asked_for(worlds):
    segmenter = Segmenter(small_network(), ModelCard(), device='cpu', precision='fp32')
    samples = samples_of(worlds, 'indoor')
    assert evaluate(segmenter, samples, progress=False)['indoor'].entropy is None
    counts = evaluate(segmenter, samples, entropy=True, progress=False)['indoor'].entropy
    logits = [segmenter.logits(segmenter.encode(read_sample(each, INDOOR)[0]), 'indoor')
              for each in samples['indoor']]
    assert counts.tolist() == sum(map(entropy_counts, logits)).tolist()
    assert counts.sum() == sum(each[0].size for each in logits)


def test_the_papers_protocol_is_the_first_hundred_images_at_the_learned_size(worlds, monkeypatch):
    assert evaluation.PAPER_IMAGES == 100
    monkeypatch.setattr(evaluation, 'PAPER_IMAGES', 3)
    segmenter = Segmenter(small_network(), ModelCard(32), device='cpu', precision='fp32')
    files = samples_of(worlds, 'outdoor')['outdoor']
    assert len(files) > 3
    results = evaluate(segmenter, {'outdoor': files}, protocol='paper', progress=False)
    pairs = []
    for sample in files[:3]:
        image, truth = read_sample(sample, OUTDOOR)
        image, truth = resize_image(image, 24, 32), resize_label(truth, 24, 32)
        pairs.append((segmenter(image)['outdoor'].mask, truth))
    assert np.array_equal(results['outdoor'].confusion, measure(OUTDOOR, pairs).confusion)
    assert results['outdoor'].confusion.sum() < 3 * 24 * 32


def test_an_absent_class_counts_as_zero_by_the_papers_protocol():
    """One class is all right and the other two absent: 1, and 1/3 by the paper's code."""
    confusion = np.array([[5, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert DomainResult(OUTDOOR, confusion).miou == 1
    assert DomainResult(OUTDOOR, confusion, absent=0.0).miou == pytest.approx(1 / 3)


@pytest.mark.parametrize('image_size', [None, 32])
def test_domains_are_measured_at_their_label_maps_own_size(worlds, image_size):
    segmenter = Segmenter(small_network(), ModelCard(image_size), device='cpu', precision='fp32')
    samples = samples_of(worlds, 'indoor', 'outdoor')
    results = evaluate(segmenter, samples, progress=False)
    assert list(results) == ['indoor', 'outdoor']
    for name, result in results.items():
        domain = segmenter.domains[name]
        pairs = [(segmenter(image)[name].mask, label)
                 for image, label in (read_sample(s, domain) for s in samples[name])]
        assert np.array_equal(result.confusion, measure(domain, pairs).confusion)
        assert result.confusion.sum() == sum((label != VOID).sum() for _, label in pairs)
