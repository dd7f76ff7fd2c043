"""Which domain an image shows, or none: the evidence, by hand, and what makes it."""

import math

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
import torch
from univseg_core.method.domain_evidence_fit import (
    EvidenceError,
    fit_evidence,
    Fitted,
    principal_components,
)
from univseg_core.models.domain_evidence import (
    at_cells,
    described,
    DomainEvidence,
    GRID,
    Recognition,
)
from univseg_core.models.heads import LinearMap


def float32(values):
    return np.array(values, np.float32)


AS_THEY_ARE = LinearMap(float32([[1]]), float32([0]))

# Of the mean alone: 0 is outdoor, 4 indoor; the deviation counts for none of them.
BY_HAND = DomainEvidence(
    ('outdoor', 'indoor'), AS_THEY_ARE,
    LinearMap(float32([np.diag([1, 0, 0, 0]), np.diag([.5, 0, 0, 0])]),
              float32([[0, 0, 0, 0], [-2, 0, 0, 0]])),
    LinearMap(float32([[-1, 0, 0, 0], [1, 0, 0, 0], [0, 2, 0, 0]]), float32([4, 0, 1])),
    float32([.5, .25, -1]))


def test_the_descriptor_is_mean_deviation_and_both_differences():
    found = described(float32([[[0], [1]], [[2], [3]]]), AS_THEY_ARE)
    expected = [1.5, math.log(math.sqrt(1.25) + .05), math.log(2.02), math.log(1.02)]
    assert found == pytest.approx(expected, abs=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize('size', [(1, 24), (16, 1), (3, 5), (16, 24)])
def test_the_descriptor_is_that_of_its_definition(size):
    generator = np.random.default_rng(2)
    cells = float32(generator.normal(2, 3, (*size, 7)))
    projection = LinearMap(float32(generator.normal(size=(4, 7))),
                           float32(generator.normal(size=4)))
    found = described(cells, projection)
    values = cells.astype(float) @ projection.weight.T.astype(float) + projection.bias

    def mean_difference(axis):
        differences = np.abs(np.diff(values, axis=axis)).reshape(-1, 4)
        return differences.mean(0) if len(differences) else np.zeros(4)

    assert found == pytest.approx(np.concatenate([
        values.mean((0, 1)), np.log(values.std((0, 1)) + .05),
        np.log(mean_difference(0) + .02), np.log(mean_difference(1) + .02)]), abs=1e-4)
    in_other_order = LinearMap(np.asfortranarray(projection.weight), projection.bias)
    assert described(cells, in_other_order) == pytest.approx(found, abs=1e-5)


def test_a_single_cell_has_no_differences():
    found = described(float32([[[3]]]), AS_THEY_ARE)
    assert found == pytest.approx([3, math.log(.05), math.log(.02), math.log(.02)], abs=1e-6)


def test_a_recognition_by_hand():
    # All cells 3: the distances are 3 and .5, the logits 1, 3 and 1 + 2 log(.05).
    found = BY_HAND(np.full((1, 2, 2), 3, np.float32))
    share = math.exp(3) / (math.exp(3) + math.exp(1))
    assert found.probabilities == pytest.approx({'outdoor': 1 - share, 'indoor': share}, abs=1e-6)
    margin = 1 + 2 * math.log(.05) - 3
    assert found.unfamiliarity == pytest.approx(.5 * .5 + .25 * margin - 1, abs=1e-5)
    assert found.domain == 'indoor'
    assert found.is_familiar
    assert not Recognition({'outdoor': 1.0}, 1.01).is_familiar


@pytest.mark.parametrize('size', [(1, 1), (3, 90), (16, 24), (45, 60), (120, 20)])
def test_the_cells_are_a_coarse_grid_from_edge_to_edge(size):
    features = np.arange(2 * math.prod(size), dtype=np.float32).reshape(2, *size)
    cells = at_cells(features)
    assert cells.shape == (*map(min, size, GRID), 2)
    assert np.array_equal(cells[[0, 0, -1, -1], [0, -1, 0, -1]].T,
                          features[:, [0, 0, -1, -1], [0, -1, 0, -1]])
    assert np.array_equal(at_cells(torch.from_numpy(features)).numpy(), cells)
    turned = np.ascontiguousarray(features.transpose(1, 2, 0)).transpose(2, 0, 1)
    assert np.array_equal(at_cells(turned), cells)
    assert np.array_equal(at_cells(cells.transpose(2, 0, 1)), cells)


def test_principal_components_vary_by_one_and_not_together():
    generator = np.random.default_rng(0)
    turn = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    mixed = turn @ (generator.normal(size=(3, 4000)) * [[4], [2], [1]])
    weight, bias = principal_components([mixed.T[:1000].reshape(20, 50, 3) + 7,
                                         mixed.T[1000:].reshape(60, 50, 3) + 7])
    found = weight @ (mixed + 7) + bias[:, None]
    assert found.mean(1) == pytest.approx(np.zeros(3), abs=1e-3)
    assert np.cov(found, bias=True) == pytest.approx(np.eye(3), abs=.02)
    for odd, message in ((np.ones((4, 5, 3)), 'the same'), (np.full((4, 5, 3), np.nan), 'finite')):
        with pytest.raises(EvidenceError, match=message):
            principal_components([odd, odd])
    assert len(principal_components([generator.normal(size=(16, 24, 40))]).bias) == 32


@pytest.fixture(scope='module')
def groups():
    """Return descriptors of two domains and of none, Gaussian ones, and more of each."""
    generator = np.random.default_rng(1)
    centres = generator.normal(size=(3, 8)) * 2

    def some(count):
        return [(centre + generator.normal(size=(count, 8))).astype(np.float32)
                for centre in centres]
    return some(200), some(1000)


def of_descriptors(evidence, descriptors):
    """Return what an evidence makes of descriptors: distances (n, K), logits, how unfamiliar."""
    far = np.linalg.norm(np.einsum('kij,nj->nki', evidence.distances.weight, descriptors)
                         + evidence.distances.bias, axis=2)
    logits = descriptors @ evidence.logits.weight.T + evidence.logits.bias
    margin = logits[:, -1] - logits[:, :-1].max(1)
    of_distance, of_margin, offset = evidence.unfamiliarity
    return far, logits, of_distance * far.min(1) + of_margin * margin + offset


def test_the_evidence_is_that_of_the_library_on_standardised_descriptors(groups):
    (outdoor, indoor, none), _ = groups
    evidence = fit_evidence({'outdoor': outdoor, 'indoor': indoor}, none, AS_THEY_ARE).evidence
    known = np.concatenate([outdoor, indoor]).astype(float)
    mean, std = known.mean(0), known.std(0)
    parts = [(each - mean) / std for each in (outdoor, indoor, none)]
    far, logits, _ = of_descriptors(evidence, indoor)
    for i, part in enumerate(parts[:2]):
        expected = np.sqrt(LedoitWolf().fit(part).mahalanobis(parts[1]))
        ratio = expected / far[:, i]
        assert ratio == pytest.approx(np.full(200, ratio[0]), rel=1e-3)
        # In units of the distance that one in twenty images is beyond: about that of chi.
        assert ratio[0] == pytest.approx(math.sqrt(15.5), rel=.1)
    library = LogisticRegression(C=.1, max_iter=1000, class_weight='balanced').fit(
        np.concatenate(parts), np.repeat([0, 1, 2], 200))
    expected = library.predict_log_proba(parts[1])
    shifted = logits - expected
    assert shifted == pytest.approx(np.repeat(shifted[:, :1], 3, axis=1), abs=1e-3)


def test_one_in_a_hundred_images_of_the_domains_is_unfamiliar_and_the_others_are(groups):
    (outdoor, indoor, none), further = groups
    fitted = fit_evidence({'outdoor': outdoor, 'indoor': indoor}, none, AS_THEY_ARE)
    unfamiliarity = [of_descriptors(fitted.evidence, each)[2] for each in further]
    assert np.mean(np.concatenate(unfamiliarity[:2])) == pytest.approx(0, abs=.1)
    assert .003 < np.mean(np.concatenate(unfamiliarity[:2]) > 1) < .03
    assert np.mean(unfamiliarity[2] > 1) > .9
    assert fitted.found > .9
    assert min(fitted.right.values()) > .95
    assert fitted.images == {'outdoor': 200, 'indoor': 200}


@pytest.mark.parametrize(('images', 'found', 'doubts'), [
    ({'yard': 100, 'hall': 400}, .5, []),
    ({'yard': 99, 'hall': 400}, .5, ['yard: 99 images']),
    ({'yard': 20, 'hall': 30}, .49, ['yard: 20', 'hall: 30', '49.0 % of made-up images']),
])
def test_few_images_and_a_low_share_of_none_are_doubted(images, found, doubts):
    fitted = Fitted(BY_HAND, images, dict.fromkeys(images, 1.0), 70, found)
    assert len(fitted.doubts()) == len(doubts)
    for said, expected in zip(fitted.doubts(), doubts, strict=True):
        assert expected in said


def test_images_that_are_all_alike_give_no_evidence(groups):
    (outdoor, _, none), _ = groups
    with pytest.raises(EvidenceError, match='all alike'):
        fit_evidence({'outdoor': outdoor[:1].repeat(30, axis=0)}, none, AS_THEY_ARE)
