"""Every loss beside loops written straight from the paper's equations, in float64."""

import math

from formula_losses import CLASSES, close, entropy_loop, random_batch, supervised_loop, VOID
import numpy as np
import pytest
import torch
from univseg_core.method.objectives import (
    class_scores,
    entropy,
    masked_cross_entropy,
    mean_assignment,
    similarities,
    similarity,
    valid_cells,
)
from univseg_core.models.universal import upsample


def entropy_terms(embeddings, labels, valid):
    return {(i, j): entropy(scores, valid[i])
            for (i, j), scores in similarities(embeddings, labels).items()}


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('domain', CLASSES)
def test_cross_entropy_is_that_of_eq_1(domain, seed):
    logits, targets, *_ = random_batch([domain], seed)
    loss = masked_cross_entropy(logits[domain], targets[domain])
    assert loss.item() == close(supervised_loop(logits[domain], targets[domain]))


@pytest.mark.parametrize('seed', range(3))
def test_entropies_are_those_of_eq_2_to_4(seed):
    _, _, embeddings, labels, valid = random_batch(CLASSES, seed)
    labels['b'][2] = 0
    terms = entropy_terms(embeddings, labels, valid)
    assert terms.keys() == {(i, j) for i in CLASSES for j in CLASSES}
    for (i, j), value in terms.items():
        assert value.item() == close(entropy_loop(embeddings[i], labels[j], valid[i])), (i, j)


def test_cross_entropy_worked_by_hand():
    """
    Image 0 has losses log 2 and 0 at its valid pixels, image 1 log 4 at its only one.

    Their means are log 2 / 2 and log 4; the mean of these is 5/4 log 2. A mean over the three
    pixels would be log 2.
    """
    log3 = math.log(3)
    logits = torch.tensor([[[[0.0, 50.0]], [[0.0, 0.0]]], [[[0.0, 9.0]], [[log3, 0.0]]]])
    target = torch.tensor([[[1, 0]], [[0, VOID]]])
    assert masked_cross_entropy(logits, target).item() == close(1.25 * math.log(2))


@pytest.mark.parametrize('classes', [2, 3, 11])
def test_uniform_scores_have_an_entropy_of_log_p(classes):
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    assert entropy(torch.full((2, classes, 3, 4), 7.0), valid).item() == close(math.log(classes))


def test_entropy_of_one_pixel_worked_by_hand():
    """Probabilities 3/4 and 1/4: the entropy is log 4 − 3/4 log 3."""
    scores = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1)
    valid = torch.ones(1, 1, 1, dtype=torch.bool)
    assert entropy(scores, valid).item() == close(math.log(4) - 0.75 * math.log(3))


def test_one_hot_scores_have_no_entropy():
    scores = torch.zeros(1, 3, 2, 2)
    scores[:, 1] = 200
    assert entropy(scores, torch.ones(1, 2, 2, dtype=torch.bool)).item() == 0


def test_similarity_leaves_absent_classes_out():
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, -1.0]])
    pixel = torch.tensor([3.0, 5.0]).view(1, 2, 1, 1)
    assert similarity(pixel, labels).flatten().tolist() == [3, -5]


def test_cosine_is_the_dot_product_of_unit_vectors_over_the_temperature():
    """(3, 4) has the direction (0.6, 0.8); at temperature 0.1 its similarities are 6 and 8."""
    pixel = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    scores = similarity(pixel, torch.eye(2), cosine=True, temperature=0.1)
    assert scores.flatten().tolist() == close([6, 8])
    assert similarity(pixel, torch.eye(2), temperature=2).flatten().tolist() == close([1.5, 2])


def test_longer_embeddings_lower_the_entropy_of_dot_products_alone():
    _, _, embeddings, labels, valid = random_batch('b')
    pixels, vectors, counted = embeddings['b'], labels['b'], valid['b']
    dots = [entropy(similarity(k * pixels, vectors), counted).item() for k in (1, 4, 16)]
    cosines = [entropy(similarity(k * pixels, vectors, cosine=True), counted).item()
               for k in (1, 4, 16)]
    assert dots[0] > 1.5 * dots[1] > 2 * dots[2]
    assert cosines[1] == close(cosines[0])
    assert cosines[2] == close(cosines[0])


def test_a_class_has_the_probabilities_of_all_its_label_embeddings():
    """
    Three classes with two label embeddings each, the second class with none.

    Of the four similarities, those of the first class make 1/8 + 2/8, of the third 4/8 + 1/8.
    """
    labels = torch.ones(6, 2)
    labels[2:4] = 0
    scores = torch.tensor([1.0, 2.0, 4.0, 1.0]).log().view(1, 4, 1, 1)
    shares = class_scores(scores, labels, 3).softmax(1).flatten().tolist()
    assert shares == close([3 / 8, 0, 5 / 8])


def test_the_mean_assignment_worked_by_hand():
    """Of three pixels, one does not count; the others are 3/4, 1/4 and 1/4, 3/4: half each."""
    log3 = math.log(3)
    scores = torch.tensor([[[log3, 0.0, 9.0]], [[0.0, log3, 0.0]]])[None]
    valid = torch.tensor([[[True, True, False]]])
    assert mean_assignment(scores, valid).tolist() == close([0.5, 0.5])
    assert mean_assignment(scores, valid, torch.tensor(8)).tolist() == close([0.125, 0.125])
    assert mean_assignment(scores, ~valid & False).tolist() == [0, 0]


def test_everything_void_gives_zero_and_finite_gradients():
    logits = torch.randn(2, 3, 4, 4, generator=torch.manual_seed(0), requires_grad=True)
    scores = torch.randn(2, 3, 4, 4, generator=torch.manual_seed(1), requires_grad=True)
    supervised = masked_cross_entropy(logits, torch.full((2, 4, 4), VOID, dtype=torch.uint8))
    unsupervised = entropy(scores, torch.zeros(2, 4, 4, dtype=torch.bool))
    assert supervised.item() == unsupervised.item() == 0
    (supervised + unsupervised).backward()
    assert logits.grad.eq(0).all()
    assert scores.grad.eq(0).all()


def test_huge_logits_stay_finite():
    generator = torch.manual_seed(0)
    scores = 1e4 * torch.randn(2, 5, 3, 3, generator=generator)
    scores.requires_grad_()
    target = torch.randint(0, 5, (2, 3, 3), generator=generator)
    loss = masked_cross_entropy(scores, target)
    uncertainty = entropy(scores, torch.ones(2, 3, 3, dtype=torch.bool))
    assert loss.item() == close(supervised_loop(scores, target))
    assert 0 <= uncertainty.item() < 1e-3
    (loss + uncertainty).backward()
    assert scores.grad.isfinite().all()


def test_void_pixels_get_no_gradient():
    logits, targets, *_ = random_batch('b')
    scores = logits['b'].requires_grad_()
    masked_cross_entropy(scores, targets['b']).backward()
    void = (targets['b'] == VOID)[:, None].expand_as(scores)
    assert scores.grad[void].eq(0).all()
    assert scores.grad[~void].ne(0).all()


def test_gradient_of_the_cross_entropy():
    logits, targets, *_ = random_batch('a')
    scores = logits['a'].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: masked_cross_entropy(s, targets['a']), scores)


def test_gradient_of_the_similarity():
    _, _, embeddings, labels, _ = random_batch('a')
    pixels = embeddings['a'].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: similarity(p, labels['a'].double()), pixels)


def test_gradient_of_the_entropy():
    """The entropy's gradient is −p·(log p + H), over the count of valid pixels."""
    scores = torch.randn(2, 5, 3, 4, generator=torch.manual_seed(0), requires_grad=True)
    valid = torch.rand(2, 3, 4, generator=torch.manual_seed(1)) < 0.6
    entropy(scores, valid).backward()
    log_p = scores.detach().double().log_softmax(1)
    h = -(log_p.exp() * log_p).sum(1, keepdim=True)
    expected = -log_p.exp() * (log_p + h) * valid[:, None] / valid.sum()
    torch.testing.assert_close(scores.grad.double(), expected, rtol=1e-5, atol=1e-6)


def test_entropy_of_half_precision_scores_is_computed_in_float32():
    scores = torch.randn(2, 5, 3, 4, generator=torch.manual_seed(0)).bfloat16()
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    assert entropy(scores, valid) == entropy(scores.float(), valid)


def test_upsampling_commutes_with_the_dot_product_but_not_with_the_entropy():
    """Computing the entropy at stride 8 is an approximation: this is where it comes in."""
    _, _, embeddings, labels, _ = random_batch('b')
    pixels, size = embeddings['b'], (16, 40)
    late = upsample(similarity(pixels, labels['b']), size, 8)
    early = similarity(upsample(pixels, size, 8), labels['b'])
    torch.testing.assert_close(late, early, rtol=1e-5, atol=1e-5)

    coarse = entropy(similarity(pixels, labels['b']), torch.ones(3, 2, 5, dtype=torch.bool))
    full = entropy(late, torch.ones(3, *size, dtype=torch.bool))
    assert abs(coarse - full).item() > 0.05


@pytest.mark.parametrize('size', [(1, 1), (8, 16), (9, 17), (23, 31)])
def test_valid_cells_are_those_of_every_eighth_pixel(size):
    generator = np.random.default_rng(0)
    targets = generator.choice([0, 1, VOID], (2, *size)).astype(np.uint8)
    cells = valid_cells(torch.from_numpy(targets), 8).tolist()
    assert cells == [[[image[y, x] != VOID for x in range(0, size[1], 8)]
                      for y in range(0, size[0], 8)] for image in targets]
