"""What the viewer makes of images and masks, and what it says when they do not come."""

import json
import signal
import threading

from builtin_interfaces.msg import Time
import cv2
from fakes import DEADLINE
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
import recordings
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String
from univseg_core.domains import Domain
from univseg_core.pictures.image_messages import decode, MessageError
from univseg_core.pictures.images import read_image
from univseg_ros import mask_pictures
from univseg_ros.image_sources import jpeg_message
from univseg_ros.mask_pictures import domain_of_label_map, Matcher, PictureWriter, write_pictures
from univseg_ros.mask_viewer import parse_arguments
from univseg_ros.messages import mask_message, rgb_message
from univseg_ros.outputs import label_map

OUTDOOR = Domain.create('outdoor', ['road', 'sky', 'tree'], [(9, 8, 7), (200, 0, 0), (0, 0, 99)])
INDOOR = Domain.create('indoor', ['floor', 'wall'])
LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
QOS = QoSProfile(depth=20)
SENSOR_QOS = QoSProfile(depth=20, reliability=ReliabilityPolicy.BEST_EFFORT)
SHAPE = (48, 160)


def header(second):
    return Header(stamp=Time(sec=second, nanosec=7), frame_id='camera')


def picture(second):
    return np.random.default_rng(second).integers(0, 256, (*SHAPE, 3), np.uint8)


def image_of(second):
    return rgb_message(picture(second), header(second))


def indices(second, domain=OUTDOOR):
    values = [*range(len(domain.classes)), 255]
    return np.random.default_rng(second).choice(values, SHAPE).astype(np.uint8)


def mask_of(second, domain=OUTDOOR):
    return mask_message(indices(second, domain), header(second))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def pictures_of(*seconds):
    return sorted(f'{second}.000000007_{kind}.png' for second in seconds
                  for kind in ('image', 'index', 'mask', 'overlay'))


def test_a_mask_finds_its_image():
    matcher = Matcher()
    images = [image_of(second) for second in range(3)]
    assert [matcher.add_image(image) for image in images] == [{}] * 3
    assert matcher.add_mask('outdoor', mask_of(1)) is images[1]
    assert matcher.add_mask('indoor', mask_of(1)) is images[1]
    matcher.give_up()
    assert matcher.unmatched == 0


def test_an_image_finds_the_masks_that_came_before_it():
    matcher = Matcher()
    outdoor, indoor, other = mask_of(1), mask_of(1, INDOOR), mask_of(2)
    for name, mask in (('outdoor', outdoor), ('indoor', indoor), ('outdoor', other)):
        assert matcher.add_mask(name, mask) is None
    assert matcher.add_image(image_of(1)) == {'outdoor': outdoor, 'indoor': indoor}
    assert matcher.add_image(image_of(1)) == {}
    matcher.give_up()
    assert matcher.unmatched == 1


def test_only_the_newest_images_are_kept(monkeypatch):
    monkeypatch.setattr(mask_pictures, 'IMAGES_KEPT', 3)
    matcher = Matcher()
    for second in range(5):
        matcher.add_image(image_of(second))
    assert [matcher.add_mask('outdoor', mask_of(second)) is not None for second in range(5)] == [
        False, False, True, True, True]


def test_only_so_many_bytes_of_images_are_kept(monkeypatch):
    size = len(image_of(0).data)
    monkeypatch.setattr(mask_pictures, 'BYTES_KEPT', 2 * size)
    matcher = Matcher()
    for second in (0, 1, 1, 1, 2):  # the same stamp again takes no more room
        matcher.add_image(image_of(second))
    assert [matcher.add_mask('outdoor', mask_of(second)) is not None for second in range(3)] == [
        False, True, True]
    large = rgb_message(np.zeros((200, 200, 3), np.uint8), header(9))
    matcher.add_image(large)  # one that is larger than all that may be kept
    assert matcher.add_mask('outdoor', mask_of(9)) is large
    assert matcher.add_mask('outdoor', mask_of(2)) is None


def test_only_the_newest_masks_wait(monkeypatch):
    monkeypatch.setattr(mask_pictures, 'MASKS_KEPT', 3)
    matcher = Matcher()
    for second in range(5):
        matcher.add_mask('outdoor', mask_of(second))
    assert matcher.unmatched == 2
    assert [len(matcher.add_image(image_of(second))) for second in range(5)] == [0, 0, 1, 1, 1]


@pytest.mark.parametrize('domain', [OUTDOOR, INDOOR])
def test_a_label_map_gives_the_domain_back(domain):
    assert domain_of_label_map(label_map(domain)) == domain


@pytest.mark.parametrize('change', [
    lambda values: values.pop('classes'),
    lambda values: values.pop('domain'),
    lambda values: values.update(domain='../elsewhere'),
    lambda values: values.update(classes=[]),
    lambda values: values.update(classes=5),
    lambda values: values['classes'][1].update(index=7),
    lambda values: values['classes'][1].update(index='1'),
    lambda values: values['classes'][1].update(name='road'),
    lambda values: values['classes'][1].update(colour=[1, 2]),
    lambda values: values['classes'][1].update(colour='red'),
    lambda values: values['classes'][1].pop('colour'),
])
def test_what_is_no_label_map(change):
    values = json.loads(label_map(OUTDOOR))
    change(values)
    with pytest.raises(ValueError, match='not a label map'):
        domain_of_label_map(json.dumps(values))


@pytest.mark.parametrize('text', ['', '{', '[]', '7', 'null', '"outdoor"'])
def test_what_is_no_json_of_a_label_map(text):
    with pytest.raises(ValueError, match='not a label map'):
        domain_of_label_map(text)


def assert_pictures_are_right(folder, second, domain=OUTDOOR):
    """Check the four pictures of an image and its mask."""
    begin = f'{folder}/{second}.000000007'
    mask = indices(second, domain)
    assert (read_image(f'{begin}_image.png') == picture(second)).all()
    written = cv2.imread(f'{begin}_index.png', cv2.IMREAD_UNCHANGED)
    assert written.shape == mask.shape
    assert (written == mask).all()
    colours = np.array([*domain.palette, *[(0, 0, 0)] * (256 - len(domain.palette))])
    assert (read_image(f'{begin}_mask.png') == colours[mask]).all()
    overlay = read_image(f'{begin}_overlay.png')
    assert overlay.shape[0] > SHAPE[0]
    assert overlay.shape[1] == SHAPE[1]
    mean = (picture(second) + colours[mask]) / 2
    expected = np.where((mask == 255)[..., None], picture(second), mean)
    np.testing.assert_allclose(overlay[:SHAPE[0]], expected, atol=1)
    legend = overlay[SHAPE[0]:].reshape(-1, 3).tolist()
    assert all(list(colour) in legend for colour in domain.palette)


def test_the_pictures_of_a_mask(tmp_path):
    path = write_pictures(tmp_path, OUTDOOR, image_of(5), mask_of(5))
    assert names(tmp_path / 'outdoor') == pictures_of(5)
    assert path == tmp_path / 'outdoor' / '5.000000007_overlay.png'
    assert_pictures_are_right(tmp_path / 'outdoor', 5)


@pytest.mark.parametrize(('mask', 'reason'), [
    (mask_message(np.zeros((160, 48), np.uint8), header(1)),
     'a mask of 48x160 pixels for an image of 160x48; expected the same size'),
    (image_of(1), "a mask of encoding 'rgb8'; expected mono8"),
    (Image(header=header(1), encoding='mono8', height=48, width=160, step=160),
     '0 bytes of data'),
])
def test_a_mask_that_does_not_fit_its_image(tmp_path, mask, reason):
    with pytest.raises(MessageError, match=reason):
        write_pictures(tmp_path, OUTDOOR, image_of(1), mask)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def slow_disk(monkeypatch):
    """Hold each write up until it is let go; return (begun, go, written)."""
    begun, go, written = threading.Semaphore(0), threading.Semaphore(0), []

    def write(out, domain, image, mask):
        begun.release()
        assert go.acquire(timeout=DEADLINE)
        written.append((domain.name, image.header.stamp.sec))
        return out

    monkeypatch.setattr(mask_pictures, 'write_pictures', write)
    return begun, go, written


def test_while_one_is_written_only_the_newest_of_each_domain_waits(tmp_path, slow_disk):
    begun, go, written = slow_disk
    writer = PictureWriter(tmp_path, 4)
    writer.put(OUTDOOR, image_of(0), mask_of(0))
    assert begun.acquire(timeout=DEADLINE)
    writer.put(OUTDOOR, image_of(1), mask_of(1))
    writer.put(INDOOR, image_of(1), mask_of(1, INDOOR))
    writer.put(OUTDOOR, image_of(2), mask_of(2))
    writer.put(OUTDOOR, image_of(3), mask_of(3))
    go.release(2)
    assert begun.acquire(timeout=DEADLINE)
    # Indoor is in work: one that comes often does not starve it.
    assert begun.acquire(timeout=DEADLINE)
    writer.put(OUTDOOR, image_of(4), mask_of(4))
    go.release(2)
    writer._thread.join(DEADLINE)
    assert written == [('outdoor', 0), ('outdoor', 3), ('indoor', 1), ('outdoor', 4)]
    assert writer.done.done()
    assert writer.written == {'outdoor': 3, 'indoor': 1}
    assert writer.replaced == 2
    writer.close()


def test_what_waits_is_dropped_at_the_end_and_what_is_in_work_is_written(tmp_path, slow_disk):
    begun, go, written = slow_disk
    writer = PictureWriter(tmp_path, None)
    writer.put(OUTDOOR, image_of(0), mask_of(0))
    assert begun.acquire(timeout=DEADLINE)
    writer.put(OUTDOOR, image_of(1), mask_of(1))
    threading.Timer(0.2, go.release).start()
    writer.close()
    assert written == [('outdoor', 0)]


def test_a_disk_that_does_not_take_pictures_ends_it(tmp_path):
    (tmp_path / 'outdoor').write_text('in the way')
    writer = PictureWriter(tmp_path, None)
    writer.put(OUTDOOR, image_of(0), mask_of(0))
    writer._thread.join(DEADLINE)
    writer.close()
    with pytest.raises(OSError, match='outdoor'):
        writer.done.result()


def test_what_cannot_be_used_is_counted_and_the_next_is_written(tmp_path):
    writer = PictureWriter(tmp_path, 1)
    writer.put(OUTDOOR, image_of(0), mask_message(np.zeros((3, 3), np.uint8), header(0)))
    writer.put(INDOOR, image_of(1), mask_of(1, INDOOR))
    writer._thread.join(DEADLINE)
    writer.close()
    assert writer.written == {'indoor': 1}
    assert names(tmp_path) == ['indoor']


@pytest.mark.parametrize(('options', 'reason'), [
    ((), '--out'),
    (('--out', 'x', '--count', '0'), "--count: '0': expected a whole number, 1 or more"),
    (('--out', 'x', '--count', 'many'), "'many': expected a whole number, 1 or more"),
    (('--out', 'x', '--node', 'a b'), "--node: 'a b' cannot be such a name"),
    (('--out', 'x', '--node', '/'), "--node: '/' cannot be such a name"),
    (('--out', 'x', '--domain', 'Out-door'), "--domain: 'Out-door' cannot be such a name"),
    (('--out', 'x', '--image-transport', 'theora'), 'theora'),
])
def test_options_that_make_no_sense(capsys, options, reason):
    with pytest.raises(SystemExit) as ended:
        parse_arguments(options)
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err.splitlines()[-1]


class StandIn:
    """What a segmentation node and a camera publish, as far as the viewer sees it."""

    def __init__(self, peer, name):
        self.peer = peer
        self.name = f'/{name}'
        self._publishers = {}

    def publisher(self, type_, topic, qos):
        if topic not in self._publishers:
            self._publishers[topic] = self.peer.node.create_publisher(
                type_, f'{self.name}/{topic}', qos)
        return self._publishers[topic]

    def announce(self, *domains):
        """Say what a mask's values mean and which domains are active."""
        for domain in domains:
            self.publisher(Image, f'univseg/{domain.name}/mask', QOS)
            self.publisher(String, f'univseg/{domain.name}/label_map', LATCHED_QOS).publish(
                String(data=label_map(domain)))
        active = String(data=json.dumps([domain.name for domain in domains]))
        self.publisher(String, 'univseg/active_domains', LATCHED_QOS).publish(active)

    def send(self, message, topic, qos=QOS):
        """Send a message once somebody subscribes."""
        publisher = self.publisher(type(message), topic, qos)
        self.peer.wait_until(publisher.get_subscription_count, f'a subscriber of {topic}')
        publisher.publish(message)

    def send_both(self, second, domain=OUTDOOR):
        """Send an image and then its mask."""
        self.send(image_of(second), 'image')
        self.send(mask_of(second, domain), f'univseg/{domain.name}/mask')


@pytest.fixture
def node(own_peer, request):
    """Return a stand-in of camera and node, in this test's own namespace."""
    return StandIn(own_peer, request.function.__name__)


@pytest.fixture
def view(start, node, tmp_path):
    """Start a viewer of this node which writes to tmp_path / 'seen'."""
    def start_viewer(*options):
        return start('-m', 'univseg_ros.mask_viewer', '--out', str(tmp_path / 'seen'), *options,
                     '--ros-args', '-r', f'__ns:={node.name}')
    return start_viewer


def test_so_many_masks_are_written_and_it_ends(view, node, tmp_path):
    node.announce(OUTDOOR, INDOOR)
    viewer = view('--count', '2')
    node.send_both(1)
    node.send(mask_of(1, INDOOR), 'univseg/indoor/mask')
    assert viewer.end() == 0
    assert_pictures_are_right(tmp_path / 'seen' / 'outdoor', 1)
    assert_pictures_are_right(tmp_path / 'seen' / 'indoor', 1, INDOOR)
    assert 'wrote 2 masks to' in viewer.output
    assert '(indoor 1, outdoor 1)' in viewer.output
    assert 'Traceback' not in viewer.output


def test_one_domain_alone_of_compressed_images(view, node, tmp_path):
    node.announce(OUTDOOR, INDOOR)
    viewer = view('--count', '1', '--domain', 'indoor', '--image-transport', 'compressed')
    image = jpeg_message(picture(3), header(3))
    node.send(image, 'image/compressed', SENSOR_QOS)
    node.send(mask_of(3, INDOOR), 'univseg/indoor/mask')
    assert viewer.end() == 0
    assert names(tmp_path / 'seen') == ['indoor']
    assert names(tmp_path / 'seen' / 'indoor') == pictures_of(3)
    written = read_image(tmp_path / 'seen' / 'indoor' / '3.000000007_image.png')
    assert (written == decode(image)).all()
    assert 'outdoor' not in viewer.output


def test_masks_without_image_are_counted_and_ctrl_c_is_a_good_end(view, node, tmp_path):
    node.announce(OUTDOOR)
    viewer = view()
    node.send_both(1)
    viewer.wait_for('1 masks written')
    for second in (2, 3):
        node.send(mask_of(second), 'univseg/outdoor/mask')
    node.send_both(4)
    # Masks come in order: once the last is written, those before it were seen.
    node.peer.wait_until(lambda: len(names(tmp_path / 'seen' / 'outdoor')) == 8, 'both masks')
    assert viewer.end(signal.SIGINT) == 0
    assert 'wrote 2 masks' in viewer.output
    assert 'of 2 the image was not seen or already forgotten' in viewer.output
    assert names(tmp_path / 'seen' / 'outdoor') == pictures_of(1, 4)
    assert 'Traceback' not in viewer.output


def test_a_domain_that_becomes_active_later(view, node, tmp_path):
    node.announce(OUTDOOR)
    viewer = view('--count', '2')
    node.send_both(1)
    viewer.wait_for('1 masks written')
    node.announce(OUTDOOR, INDOOR)
    node.send_both(2, INDOOR)
    assert viewer.end() == 0
    assert names(tmp_path / 'seen' / 'indoor') == pictures_of(2)


def test_rubbish_on_the_topics_of_labels(view, node):
    node.announce(OUTDOOR)
    viewer = view('--count', '1')
    viewer.wait_for('watching')
    active = node.publisher(String, 'univseg/active_domains', LATCHED_QOS)
    for text in ('{', '5', '["../x"]', '[1]'):
        before = viewer.line_count()
        active.publish(String(data=text))
        viewer.wait_for(f'active_domains: {text!r}', before)
    node.publisher(String, 'univseg/outdoor/label_map', LATCHED_QOS).publish(String(data='{}'))
    viewer.wait_for('not a label map')
    node.send_both(1)
    assert viewer.end() == 0


def test_it_says_that_there_is_no_node_and_which_there_are(view, node):
    node.announce(OUTDOOR)
    viewer = view('--node', 'other')
    line = viewer.wait_for('no mask for 5 s: there is no node')
    assert f'{node.name}/other' in line
    assert f'--node {node.name}/univseg' in line or '--node /' in line
    viewer.wait_for('no image for 5 s: nobody publishes')
    assert viewer.end(signal.SIGTERM) == 0


def test_it_says_that_the_node_is_not_active(view, node):
    node.publisher(String, 'univseg/active_domains', LATCHED_QOS)
    viewer = view()
    assert 'ros2 lifecycle set' in viewer.wait_for('is configured, but not active')
    assert viewer.end(signal.SIGINT) == 0


def test_it_says_that_the_domain_is_not_active(view, node):
    node.announce(OUTDOOR)
    viewer = view('--domain', 'indoor')
    line = viewer.wait_for('indoor not active')
    assert 'only outdoor' in line
    assert f'''ros2 param set {node.name}/univseg active_domains "['indoor']"''' in line
    assert viewer.end(signal.SIGINT) == 0


def test_it_says_that_masks_do_not_come_or_are_not_of_the_images(view, node):
    node.announce(OUTDOOR)
    viewer = view()
    node.send(image_of(1), 'image')
    second = iter(range(2, 10_000))

    def said(text):
        node.send(image_of(next(second)), 'image')
        node.peer.handle_for(0.2)
        return text in viewer.output

    node.peer.wait_until(lambda: said('sends no masks of outdoor'), 'a word on the masks')
    stamps = iter(range(20_000, 30_000))

    def foreign(text):
        node.send(mask_of(next(stamps)), 'univseg/outdoor/mask')
        return said(text)

    node.peer.wait_until(lambda: foreign('have other stamps'), 'a word on the stamps')
    assert viewer.end(signal.SIGINT) == 0


def test_a_folder_that_cannot_be_written(start, view, tmp_path):
    (tmp_path / 'seen').write_text('in the way')
    viewer = view()
    assert viewer.end() == 1
    assert f'{tmp_path / "seen"}: pictures cannot be written' in viewer.output
    assert 'Traceback' not in viewer.output


def test_a_disk_that_fails_later(view, node, tmp_path):
    (tmp_path / 'seen').mkdir()
    (tmp_path / 'seen' / 'outdoor').write_text('in the way')
    node.announce(OUTDOOR)
    viewer = view()
    node.send_both(1)
    assert viewer.end() == 1
    assert 'pictures cannot be written' in viewer.output
    assert 'Traceback' not in viewer.output


def test_player_node_and_viewer_together(start, view, node, tmp_path, quick_model):
    folder = recordings.write_folder(tmp_path / 'photos', recordings.pictures(3, (40, 60)))
    namespace = ('--ros-args', '-r', f'__ns:={node.name}')
    viewer = view('--count', '6')
    start('-m', 'univseg_ros.segmentation_node', *namespace, '-p', f'model:={quick_model}',
          '-p', 'reliability:=reliable', '-p', "active_domains:=['outdoor', 'indoor']")
    viewer.wait_for('outdoor/mask')
    viewer.wait_for('indoor/mask')
    start('-m', 'univseg_ros.image_player', str(folder), '--rate', '5', '--loop',
          '--wait-for-subscribers', '2', *namespace)
    assert viewer.end() == 0
    for name in ('outdoor', 'indoor'):
        written = names(tmp_path / 'seen' / name)
        assert len(written) % 4 == 0
        image = read_image(tmp_path / 'seen' / name / written[0])
        assert any((image == played).all() for played in recordings.pictures(3, (40, 60)))
