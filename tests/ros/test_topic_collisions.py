"""Topics of several cameras that collide."""

import pytest
from univseg_ros.topic_collisions import info_objections, topic_objection

OVERLAY = '/univseg/front/outdoor/overlay'
OWN = {'front': [OVERLAY, '/masks', '/masks']}


@pytest.mark.parametrize(('topics', 'reason'), [
    ({'': '/image'}, ''),
    ({'front': '/front/image', 'left': '/left/image'}, ''),
    ({'front': '/image', 'left': '/left/image', 'rear': '/image'},
     'cameras front and rear both subscribe to /image: remap rear/image'),
    ({'front': '/a', 'left': OVERLAY},
     f'the node would segment what it publishes itself on {OVERLAY}: remap left/image'),
    ({'': OVERLAY}, f'the node would segment what it publishes itself on {OVERLAY}: remap image')])
def test_images(topics, reason):
    assert topic_objection(topics, {}, OWN) == reason


def test_outputs_of_two_cameras():
    assert topic_objection({}, {}, OWN | {'left': ['/left/masks']}) == ''
    assert topic_objection({}, {}, OWN | {'left': ['/masks']}) == (
        'outputs of front and left are both to be published on /masks: remap one of them to '
        'another')


def test_images_and_camera_info_on_one_topic():
    assert topic_objection({'': '/image'}, {'': '/camera_info'}, OWN) == ''
    assert topic_objection({'': '/image'}, {'': '/image'}, OWN) == (
        'the camera_info of the camera cannot come on /image, where images come: remap '
        'camera_info')
    assert topic_objection({'front': '/a', 'left': '/b'}, {'left': '/a'}, OWN) == (
        'the camera_info of left cannot come on /a, where images come: remap left/camera_info')


def test_cameras_in_one_namespace_have_no_camera_info():
    assert info_objections({'': '/camera_info'}) == {}
    assert info_objections({'front': '/front/camera_info', 'left': '/left/camera_info'}) == {}
    assert info_objections({'front': '/rig/camera_info', 'top': '/top/camera_info',
                            'left': '/rig/camera_info'}) == {
        'front': '/rig/camera_info cannot be the camera_info of both front and left: the masks '
                 'of front get none; remap front/camera_info',
        'left': '/rig/camera_info cannot be the camera_info of both left and front: the masks '
                'of left get none; remap left/camera_info'}
