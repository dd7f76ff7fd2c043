"""Which camera_info goes with a mask: its topic, its stamp, its size."""

from types import SimpleNamespace

from builtin_interfaces.msg import Time
from fakes import Clock
import pytest
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header
from univseg_ros import camera_info
from univseg_ros.camera_info import CameraInfos, image_size, scaled


def info(width=640, height=480, stamp=0, **fields):
    """Return a calibration whose numbers all differ."""
    message = CameraInfo(
        header=Header(stamp=Time(sec=stamp), frame_id='camera'), width=width, height=height,
        distortion_model='plumb_bob', d=[0.1, -0.2, 0.01, 0.02, 0.3],
        k=[500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0],
        r=[1.0, 0.1, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[490.0, 0.0, 310.0, -50.0, 0.0, 495.0, 235.0, -5.0, 0.0, 0.0, 1.0, 0.0])
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def window(x, y, width, height):
    return RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height, do_rectify=True)


def test_of_images_of_its_own_size_nothing_is_changed():
    assert scaled(info(), (480, 640)) == info()
    binned = info(binning_x=2, binning_y=4)
    assert image_size(binned) == (120, 320)
    assert scaled(binned, (120, 320)) == binned
    part = info(roi=window(100, 50, 200, 100), binning_x=2, binning_y=2)
    assert image_size(part) == (50, 100)
    assert scaled(part, (50, 100)) == part


def test_what_is_in_pixels_is_scaled():
    before = info()
    half = scaled(before, (240, 320))
    assert before == info()  # it is a copy
    assert (half.width, half.height) == (320, 240)
    assert list(half.k) == [250, 0, 160, 0, 255, 120, 0, 0, 1]
    assert list(half.p) == [245, 0, 155, -25, 0, 247.5, 117.5, -2.5, 0, 0, 1, 0]
    assert (half.roi, half.binning_x, half.binning_y) == (RegionOfInterest(), 0, 0)
    assert (half.d, list(half.r), half.distortion_model) == (
        before.d, list(before.r), 'plumb_bob')
    double = scaled(before, (960, 1280))
    assert (double.width, double.k[0], double.p[3]) == (1280, 1000, -100)


def projected(message, x, y):
    """Return the pixel of the image at which a ray (x, y, 1) is, as image_geometry has it."""
    column = message.k[0] * x + message.k[2] - message.roi.x_offset
    row = message.k[4] * y + message.k[5] - message.roi.y_offset
    return column / max(1, message.binning_x), row / max(1, message.binning_y)


@pytest.mark.parametrize('fields', [
    {}, {'binning_x': 2, 'binning_y': 2}, {'roi': window(100, 60, 400, 320)},
    {'roi': window(100, 60, 400, 320), 'binning_x': 2, 'binning_y': 4}])
def test_a_ray_hits_the_same_spot_of_the_scaled_image(fields):
    before = info(**fields)
    height, width = image_size(before)
    for scale in (0.5, 2, 3):
        size = round(height * scale), round(width * scale)
        after = scaled(before, size)
        assert image_size(after) == size
        assert (after.binning_x, after.binning_y) == (before.binning_x, before.binning_y)
        assert after.roi.do_rectify == before.roi.do_rectify
        for ray in ((0, 0), (-0.3, 0.2)):
            expected = [scale * value for value in projected(before, *ray)]
            assert projected(after, *ray) == pytest.approx(expected)


@pytest.mark.parametrize('size', [(480, 641), (270, 480), (480, 360), (640, 480), (1, 3)])
def test_another_shape_has_none(size):
    if size == (480, 641):  # what rounding may have come to
        assert image_size(scaled(info(), size)) == size
    else:
        assert scaled(info(), size) is None


def test_sizes_that_were_rounded_are_of_the_same_shape():
    small = scaled(info(1920, 1080), (480, 853))
    assert (small.width, small.height) == (853, 480)
    assert small.k[0] == pytest.approx(500 * 853 / 1920)
    assert small.k[4] == pytest.approx(510 * 480 / 1080)


def test_a_camera_that_does_not_say_its_size_has_none():
    assert scaled(CameraInfo(), (480, 640)) is None
    assert scaled(info(binning_x=1000), (480, 640)) is None


@pytest.fixture
def make_infos(ros_domain, request):
    """Return a function that makes the camera_info of a node with some remappings."""
    nodes = []

    def make(*remappings, image='image'):
        rules = [word for rule in remappings for word in ('-r', rule)]
        node = rclpy.create_node('infos', namespace=f'/{request.function.__name__}',
                                 cli_args=['--ros-args', *rules] if rules else None)
        nodes.append(node)
        return CameraInfos(node, image)

    yield make
    for node in nodes:
        node.destroy_node()


@pytest.mark.parametrize(('remappings', 'image', 'topic'), [
    ([], 'image', '{}/camera_info'),
    (['image:=/camera/image_raw'], 'image', '/camera/camera_info'),
    (['image:=image_raw'], 'image', '{}/camera_info'),
    (['image:=/image_raw'], 'image', '/camera_info'),
    (['image:=/camera/image_raw', 'camera_info:=/calibration'], 'image', '/calibration'),
    (['camera_info:=other/info'], 'image', '{}/other/info'),
    ([], 'front/image', '{}/front/camera_info'),
    (['front/image:=/front_camera/color/image_raw'], 'front/image',
     '/front_camera/color/camera_info'),
    (['front/camera_info:=/a/b'], 'front/image', '/a/b'),
    (['camera_info:=/a/b'], 'front/image', '{}/front/camera_info')])
def test_the_topic_is_beside_the_images_or_where_a_remapping_has_it(
        make_infos, request, remappings, image, topic):
    namespace = f'/{request.function.__name__}'
    assert make_infos(*remappings, image=image).topic == topic.format(namespace)


@pytest.fixture
def infos():
    """Return infos that have no ROS around them, and what they log."""
    logged = []
    node = SimpleNamespace(
        resolve_topic_name=lambda name, only_expand=False: f'/{name}',
        get_logger=lambda: SimpleNamespace(warning=logged.append))
    infos = CameraInfos(node)
    infos.logged = logged
    return infos


def header(stamp):
    return Header(stamp=Time(sec=stamp), frame_id='optical')


def test_it_is_that_of_the_stamp_or_the_newest_with_the_images_header(infos):
    assert infos.of(header(1), (480, 640)) is None
    assert infos.state == '/camera_info (nothing has come)'
    for stamp in (3, 1, 2):
        infos._receive(info(stamp=stamp, d=[float(stamp)]))
    assert infos.state == '/camera_info'
    for stamp, found in ((1, 1), (2, 2), (3, 3), (4, 2)):
        message = infos.of(header(stamp), (480, 640))
        assert message.header == header(stamp)
        assert list(message.d) == [found]
    assert infos.problem == ''
    assert infos.logged == []


def test_what_is_kept_is_bounded(infos, monkeypatch):
    monkeypatch.setattr(camera_info, 'KEPT', 3)
    for stamp in (1, 2, 2, 3, 4, 5):
        infos._receive(info(stamp=stamp, d=[float(stamp)]))
    assert [infos.of(header(stamp), (480, 640)).d[0] for stamp in range(1, 6)] == [
        5, 5, 3, 4, 5]
    assert len(infos._by_stamp) == len(infos._stamps) == 3


def test_another_shape_is_said_once_and_until_it_is_mended(infos):
    infos._receive(info())
    problem = ('/camera_info is of images of 640x480, and the images have 640x360, which is '
               'another shape: the masks get no camera_info')
    for _ in range(3):
        assert infos.of(header(1), (360, 640)) is None
        assert infos.problem == problem
        assert infos.logged == [problem]
    assert infos.of(header(1), (240, 320)).width == 320
    assert infos.problem == ''
    assert infos.of(header(1), (360, 640)) is None
    assert infos.logged == [problem]
    assert infos.of(header(1), (360, 320)) is None
    assert len(infos.logged) == 2


def test_what_was_wrong_long_ago_is_forgotten(infos, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(camera_info, 'time', clock)
    infos._receive(info())
    infos.of(header(1), (360, 640))
    clock.advance(9.9)
    assert infos.problem
    clock.advance(0.2)  # nobody has asked for it since
    assert infos.problem == ''


@pytest.mark.parametrize('reliability', ['RELIABLE', 'BEST_EFFORT'])
@pytest.mark.parametrize('durability', ['VOLATILE', 'TRANSIENT_LOCAL'])
def test_every_publisher_is_heard_and_what_it_keeps(
        make_infos, monkeypatch, reliability, durability):
    monkeypatch.setattr(camera_info, 'MATCH_PERIOD', 0.05)
    infos = make_infos()
    peer = rclpy.create_node('driver', namespace=infos._node.get_namespace())
    publisher = peer.create_publisher(CameraInfo, 'camera_info', QoSProfile(
        depth=1, reliability=ReliabilityPolicy[reliability],
        durability=DurabilityPolicy[durability]))
    publisher.publish(info(stamp=1))  # before anybody listens
    infos.open()
    # It is kept for those alone who read reliably.
    first = 1 if (reliability, durability) == ('RELIABLE', 'TRANSIENT_LOCAL') else 2
    if first == 2:
        wait(infos, publisher.get_subscription_count)
        publisher.publish(info(stamp=2))
    wait(infos, lambda: infos.of(header(1), (480, 640)))
    assert infos._newest.header.stamp.sec == first
    infos.close()
    assert infos.of(header(1), (480, 640)) is None
    peer.destroy_node()


def wait(infos, condition):
    for _ in range(1800):
        if condition():
            return
        rclpy.spin_once(infos._node, timeout_sec=0.1)
    pytest.fail('waited in vain')
