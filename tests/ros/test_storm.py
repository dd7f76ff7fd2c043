"""Random changes of all that may change, one after another, at a node with three cameras."""

import itertools
from pathlib import Path
import signal

from measured_node.made_up_places import write_knowing_model
from measured_node.storm import parameters, Storm
from robot import Robot
from univseg_core.inference.segmenter import Segmenter

CHANGES = 60


def test_in_a_storm_whatever_comes_is_right_and_every_request_is_answered(
        start, peer, model_file, tmp_path):
    model = write_knowing_model(Path(model_file), tmp_path)
    robot = Robot(start, peer, 'storm', '-p', f'model:={model}', *itertools.chain.from_iterable(
        ('-p', value) for value in parameters('/storm/univseg')))
    robot.wait_until_active()
    storm = Storm('/storm/univseg', '/storm', Segmenter.load(model, precision='fp32'), seed=3)
    storm.begin()
    storm.run(CHANGES)
    storm.make_active()
    storm.end()
    storm.node.destroy_node()
    assert not storm.watch.faults
    assert sum(map(bool, storm.made.values())) == len(storm.made)
    assert sum(bool(frame.outputs) for frame in storm.watch.frames.values()) > CHANGES
    begin = robot.process.line_count()
    robot.end(signal.SIGINT)
    for name in ('front', 'left', 'rear'):
        assert ', 0 failed' in robot.process.wait_for(f'{name}: stopped; frames', begin)
    assert 'callback failed' not in robot.process.output
