"""Topics of several cameras that collide."""

import pytest
from univseg_ros.topic_collisions import image_objection, info_objections

OWN = ['/univseg/front/outdoor/overlay', '/diagnostics']


@pytest.mark.parametrize(('topics', 'reason'), [
    ({'': '/image'}, ''),
    ({'front': '/front/image', 'left': '/left/image'}, ''),
    ({'front': '/image', 'left': '/left/image', 'rear': '/image'},
     'cameras front and rear both subscribe to /image: remap rear/image'),
    ({'front': '/a', 'left': OWN[0]},
     f'the node would segment what it publishes itself on {OWN[0]}: remap left/image'),
    ({'': OWN[0]}, f'the node would segment what it publishes itself on {OWN[0]}: remap image')])
def test_images(topics, reason):
    assert image_objection(topics, OWN) == reason


def test_cameras_in_one_namespace_have_no_camera_info():
    assert info_objections({'': '/camera_info'}) == {}
    assert info_objections({'front': '/front/camera_info', 'left': '/left/camera_info'}) == {}
    assert info_objections({'front': '/rig/camera_info', 'top': '/top/camera_info',
                            'left': '/rig/camera_info'}) == {
        'front': '/rig/camera_info cannot be the camera_info of both front and left: the masks '
                 'of front get none; remap front/camera_info',
        'left': '/rig/camera_info cannot be the camera_info of both left and front: the masks '
                'of left get none; remap left/camera_info'}
