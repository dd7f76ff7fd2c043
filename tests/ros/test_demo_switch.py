"""What the demo's observer lets pass, and what not."""

from types import SimpleNamespace

from builtin_interfaces.msg import Time
import numpy as np
import pytest
from std_msgs.msg import Header
from univseg_core.inference.segmenter import Segmenter
from univseg_core.pictures.image_messages import decode
from univseg_ros.demo_switch import DemoError, mask_keeper, SwitchRecord
from univseg_ros.messages import mask_message, rgb_message

SECOND = 10**9
ASKED, ANSWERED = 103 * SECOND, 104 * SECOND
STAMPS = [stamp * SECOND for stamp in (100, 101, 105, 106)]
MOMENT_BEFORE, MEANWHILE = ASKED - SECOND // 2, ASKED + SECOND // 2


@pytest.fixture(scope='module')
def segmenter(model_file):
    """Return the model as a Segmenter."""
    return Segmenter.load(model_file)


@pytest.fixture
def seen(segmenter):
    """Return the record of a switch as it should be: two frames before it and two after."""
    record = SwitchRecord(len(STAMPS), masks={'outdoor': {}, 'indoor': {}},
                          first_mask_after=105 * SECOND, asked=ASKED, answered=ANSWERED)
    for stamp in STAMPS:
        take(record, segmenter, stamp, 'outdoor' if stamp < ASKED else 'indoor')
    return record


def take(record, segmenter, stamp, *domains):
    """Add a frame and its masks."""
    pixels = np.random.default_rng(stamp).integers(0, 256, (16, 24, 3), np.uint8)
    header = Header(stamp=Time(sec=stamp // SECOND, nanosec=stamp % SECOND), frame_id='camera')
    record.images[stamp] = rgb_message(pixels, header)
    for name in domains:
        record.masks[name][stamp] = mask_message(segmenter(pixels, [name])[name].mask, header)


def remake(record, segmenter, stamp, domain):
    """Replace a frame's masks by one of a domain."""
    for masks in record.masks.values():
        masks.pop(stamp, None)
    take(record, segmenter, stamp, domain)


def test_a_good_switch_passes(seen, model_file):
    report = seen.check(model_file)
    assert '| frames before the switch | 2 | 0 |' in report
    assert '| frames after the switch | 0 | 2 |' in report
    assert '4 frames streamed, 4 masks' in report
    assert '100.00 %' in report


@pytest.mark.parametrize('domain', ['outdoor', 'indoor'])
@pytest.mark.parametrize('stamp', [MOMENT_BEFORE, MEANWHILE])
def test_frames_about_the_switch_may_be_of_either_domain(
        seen, segmenter, model_file, stamp, domain):
    take(seen, segmenter, stamp, domain)
    seen.streamed += 1
    seen.check(model_file)


def late_outdoor(seen, segmenter):
    remake(seen, segmenter, STAMPS[-1], 'outdoor')


def outdoor_just_after(seen, segmenter):
    take(seen, segmenter, ANSWERED + 1, 'outdoor')
    seen.streamed += 1


def early_indoor(seen, segmenter):
    remake(seen, segmenter, STAMPS[0], 'indoor')


def missing_mask(seen, segmenter):
    del seen.masks['outdoor'][STAMPS[0]]


def two_masks(seen, segmenter):
    take(seen, segmenter, STAMPS[0], 'outdoor', 'indoor')


def another_size(seen, segmenter):
    seen.masks['outdoor'][STAMPS[0]] = mask_message(
        np.zeros((24, 16), np.uint8), seen.images[STAMPS[0]].header)


def another_frame_id(seen, segmenter):
    mask = decode(seen.masks['outdoor'][STAMPS[0]])[..., 0]
    seen.masks['outdoor'][STAMPS[0]] = mask_message(
        mask, Header(stamp=seen.images[STAMPS[0]].header.stamp, frame_id='elsewhere'))


def other_pixels(seen, segmenter):
    mask = decode(seen.masks['outdoor'][STAMPS[0]])[..., 0]
    seen.masks['outdoor'][STAMPS[0]] = mask_message(
        np.where(mask == 0, 1, 0).astype(np.uint8), seen.images[STAMPS[0]].header)


def foreign_stamp(seen, segmenter):
    seen.masks['indoor'][1] = seen.masks['indoor'][STAMPS[-1]]


def missing_image(seen, segmenter):
    del seen.images[STAMPS[0]], seen.masks['outdoor'][STAMPS[0]]


@pytest.mark.parametrize(('spoil', 'failure'), [
    (late_outdoor, 'mask of outdoor; expected indoor'),
    (outdoor_just_after, 'mask of outdoor; expected indoor'),
    (early_indoor, 'mask of indoor; expected outdoor'),
    (missing_mask, r'masks of \[\]; expected one domain'),
    (two_masks, r"masks of \['outdoor', 'indoor'\]; expected one domain"),
    (another_size, 'another size or frame_id'),
    (another_frame_id, 'another size or frame_id'),
    (other_pixels, 'differs from the one computed without ROS'),
    (foreign_stamp, 'masks of indoor with stamps that no image has'),
    (missing_image, '3 images came; 4 were streamed'),
])
def test_what_is_not_as_promised_is_named(seen, segmenter, model_file, spoil, failure):
    spoil(seen, segmenter)
    with pytest.raises(DemoError, match=failure):
        seen.check(model_file)


def test_the_same_mask_twice_is_named(seen):
    keep = mask_keeper(SimpleNamespace(), seen, 'outdoor')
    with pytest.raises(DemoError, match='two masks of outdoor'):
        keep(seen.masks['outdoor'][STAMPS[0]])
