"""Size as a curriculum: which crops each step has, and the run that follows it exactly."""

import numpy as np
import pytest
from tiny_worlds import random_image
from univseg_core.batches.curriculum import curriculum
from univseg_core.batches.transforms import Augmentation
from univseg_core.pictures.images import resize_image
from univseg_core.settings.config import load_config
from univseg_core.settings.file import ConfigError

FULL = Augmentation(192, (0.5, 1.5), flip=True, colour=0.3)


def test_without_stages_every_step_is_at_full_size():
    stages = curriculum(FULL, [], 10)
    assert {stages.at(step) for step in range(10)} == {FULL}


def test_stages_follow_each_other_and_the_full_size_is_last():
    stages = curriculum(FULL, [(0.25, 0.5), (0.5, 0.75)], 20)
    small = Augmentation(96, (0.25, 0.75), flip=True, colour=0.3)
    middle = Augmentation(144, (0.375, 1.125), flip=True, colour=0.3)
    assert [stages.at(step) for step in range(20)] == 5 * [small] + 10 * [middle] + 5 * [FULL]


@pytest.mark.parametrize(('crop', 'scale', 'side'), [(192, 0.4, 80), (96, 0.1, 64), (160, 1, 160)])
def test_sides_are_multiples_of_the_grain(crop, scale, side):
    assert curriculum(Augmentation(crop), [(0.5, scale)], 2).at(0).crop_size == side


def test_a_small_crop_shows_what_the_large_one_does():
    """At half the size, of the image as it is."""
    image = random_image(192, 256)
    label = np.arange(192 * 256, dtype=np.uint8).reshape(192, 256)
    large, _ = Augmentation(192)(image, label, np.random.default_rng(3))
    small, _ = curriculum(Augmentation(192), [(0.5, 0.5)], 2).at(0)(
        image, label, np.random.default_rng(3))
    assert small.shape == (96, 96, 3)
    assert np.array_equal(small, resize_image(large, 96, 96))


@pytest.mark.parametrize('stages', [
    [[1.0, 0.5]], [[0.5, 0.5], [0.5, 0.7]], [[0, 0.5]], [[-0.1, 0.5]], [[0.5, 0.05]],
    [[0.5, 1.5]]])
def test_stages_that_cannot_be_are_refused(values, write_config, stages):
    values['data']['curriculum'] = stages
    with pytest.raises(ConfigError, match=r'data: curriculum: expected \[share, scale\]'):
        load_config(write_config(values))


def test_a_stage_of_another_form_is_refused(values, write_config):
    values['data']['curriculum'] = [0.5]
    with pytest.raises(ConfigError, match=r'data\.curriculum\.0'):
        load_config(write_config(values))
