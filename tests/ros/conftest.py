"""Real nodes in real processes, and a node of the test's own to talk to them."""

from collections.abc import Callable, Iterator
import importlib.util
import itertools
import os
from pathlib import Path
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from fakes import DEADLINE
import numpy as np
import pytest

# Made-up places, and storms, are those of the benchmarks.
sys.path.append(str(Path(__file__).parents[2] / 'benchmarks'))


class ModuleWithoutRos(pytest.Module):
    """A module of tests that cannot even be imported without ROS."""

    def collect(self):
        """Skip the module."""
        pytest.skip('needs ROS 2 (rclpy)', allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    """Skip all modules here, saying so, where ROS is missing."""
    if importlib.util.find_spec('rclpy') is None:
        return ModuleWithoutRos.from_parent(parent, path=module_path)
    return None


@pytest.fixture(scope='session')
def ros_domain() -> Iterator[int]:
    """
    Initialise ROS in a domain that nobody else on this machine uses.

    A domain is taken by the port that launch_testing's coordinator takes for it as well.
    """
    import rclpy
    for domain in random.SystemRandom().sample(range(1, 101), 100):
        with socket.socket() as lock:
            try:
                lock.bind(('localhost', 22119 + domain))
            except OSError:
                continue
            os.environ['ROS_DOMAIN_ID'] = str(domain)
            os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
            rclpy.init()
            yield domain
            rclpy.try_shutdown()
            return
    pytest.fail('all ROS domains from 1 to 100 are in use')


class Process:
    """A process whose output is kept and can be waited for."""

    def __init__(self, *arguments: str):
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._ended = False
        self._popen = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, 'PYTHONUNBUFFERED': '1'})
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._popen.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        """Return the process's number."""
        return self._popen.pid

    @property
    def output(self) -> str:
        """All lines so far."""
        with self._changed:
            return ''.join(self._lines)

    def wait_for(self, text: str, after: int = 0) -> str:
        """Return the first line with a text, among those from number `after` on."""
        def found() -> str | None:
            return next((line for line in self._lines[after:] if text in line), None)
        with self._changed:
            self._changed.wait_for(lambda: self._ended or found(), DEADLINE)
            line = found()
        assert line is not None, f'no line with {text!r} in:\n{self.output}'
        return line

    def line_count(self) -> int:
        """Return how many lines there are so far."""
        with self._changed:
            return len(self._lines)

    def end(self, with_signal: signal.Signals | None = None) -> int:
        """Wait for the end, after a signal if one is given; return the exit code."""
        if with_signal is not None:
            self._popen.send_signal(with_signal)
        code = self._popen.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return code

    def kill(self) -> None:
        """End the process in any case."""
        self._popen.kill()
        self._popen.wait()
        self._reader.join()


@pytest.fixture(scope='module')
def start(ros_domain: int) -> Iterator[Callable[..., Process]]:
    """Start Python, or another program, as a process; it is killed after the module's tests."""
    processes = []

    def start_process(*arguments: str, program: str = sys.executable) -> Process:
        processes.append(Process(program, *arguments))
        return processes[-1]

    yield start_process
    for process in processes:
        process.kill()


@pytest.fixture
def ros2_launch(start: Callable[..., Process]) -> Callable[..., Process]:
    """Return a function that starts `ros2 launch` with a file of the package, or a path."""
    ros2 = shutil.which('ros2')
    if ros2 is None:
        pytest.skip('needs a ROS 2 distribution (the ros2 command)')
    from ament_index_python import get_package_prefix
    try:
        get_package_prefix('univseg_ros')
    except (LookupError, OSError):
        pytest.skip('needs univseg_ros built with colcon and its workspace sourced')

    def launch(file: str | Path, *arguments: str) -> Process:
        package = [] if isinstance(file, Path) else ['univseg_ros']
        return start('launch', *package, str(file), *arguments, program=ros2)

    return launch


class Peer:
    """The test's own node: it publishes, collects and calls services, and waits for events."""

    def __init__(self, name: str, namespace: str = '', **options):
        import rclpy
        self.rclpy = rclpy
        self.node = rclpy.create_node(name, namespace=namespace, **options)
        self._publishers = {}
        self._subscriptions = {}
        self._clients = {}
        self._seconds = itertools.count(1)

    def wait_until(self, condition: Callable[[], object], what: str, seconds: float = DEADLINE):
        """Handle what comes until a condition holds; return what it gave."""
        end = time.monotonic() + seconds
        while not (result := condition()):
            assert time.monotonic() < end, f'waited {seconds} s in vain: {what}'
            self.rclpy.spin_once(self.node, timeout_sec=0.05)
        return result

    def handle_for(self, seconds: float) -> None:
        """Handle what comes for a while, so that another process gets on with its work."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.rclpy.spin_once(self.node, timeout_sec=end - time.monotonic())

    def collect(self, type_, topic: str, qos) -> list:
        """Subscribe to a topic; return the list into which its messages come."""
        messages = []
        self._subscriptions[id(messages)] = self.node.create_subscription(
            type_, topic, messages.append, qos)
        return messages

    def stop_collecting(self, messages: list) -> None:
        """End the subscription of which `messages` is the list."""
        self.node.destroy_subscription(self._subscriptions.pop(id(messages)))

    def call(self, type_, service: str, request, node: str = ''):
        """Call a service of a node, by default the one that its name begins with."""
        future = self.client(type_, service, node).call_async(request)
        self.wait_until(future.done, f'the response of {service}')
        return future.result()

    def client(self, type_, service: str, node: str = ''):
        """
        Return a client of a node's service that is ready, of which the node knows.

        A node that has not discovered a client yet, cannot answer it, and gives up soon. Clients
        become known in the order in which they are made: so one is, if a later one is answered.
        """
        if service not in self._clients:
            self._clients[service] = self.node.create_client(type_, service)
            self._wait_until_answered(node or service.rpartition('/')[0])
        client = self._clients[service]
        self.wait_until(client.service_is_ready, f'service {service}')
        return client

    def _wait_until_answered(self, node: str) -> None:
        from rcl_interfaces.srv import GetParameterTypes
        client = self.node.create_client(GetParameterTypes, f'{node}/get_parameter_types')
        self.wait_until(client.service_is_ready, f'node {node}')
        answers = []

        def is_answered() -> bool:
            answers.append(client.call_async(GetParameterTypes.Request()))
            self.handle_for(0.02)
            return any(answer.done() for answer in answers)

        self.wait_until(is_answered, f'an answer of {node}')
        self.node.destroy_client(client)

    def publish(self, message, topic: str, qos, pause: float = 0.0) -> None:
        """Publish a message, once somebody subscribes to the topic, or so many seconds later."""
        publisher = self._publisher(type(message), topic, qos)
        self.wait_until(publisher.get_subscription_count, f'a subscriber to {topic}')
        self.handle_for(pause)
        publisher.publish(message)

    def publish_at_once(self, message, topic: str, qos) -> None:
        """Publish a message, whether anybody subscribes to the topic or not."""
        self._publisher(type(message), topic, qos).publish(message)

    def _publisher(self, type_, topic: str, qos):
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(type_, topic, qos)
        return self._publishers[topic]

    def wait_until_acknowledged(self, topic: str) -> None:
        """Wait until all that was published on a topic has reached those who read it reliably."""
        from rclpy.duration import Duration
        assert self._publishers[topic].wait_for_all_acked(Duration(seconds=DEADLINE))

    def stop_publishing(self, topic: str) -> None:
        """Leave a topic, and wait until everyone knows."""
        self.node.destroy_publisher(self._publishers.pop(topic))
        self.wait_until(lambda: not self.node.count_publishers(topic), f'nobody to leave {topic}')

    def header(self, frame_id: str = 'camera_optical_frame'):
        """Return a header with a stamp that no other has."""
        from builtin_interfaces.msg import Time
        from std_msgs.msg import Header
        return Header(stamp=Time(sec=next(self._seconds), nanosec=7), frame_id=frame_id)


@pytest.fixture(scope='module')
def peer(ros_domain: int) -> Iterator[Peer]:
    """Return a node of the test's own."""
    peer = Peer('peer')
    yield peer
    peer.node.destroy_node()


@pytest.fixture
def own_peer(ros_domain: int, request: pytest.FixtureRequest) -> Iterator[Peer]:
    """Return a node in a namespace of this test's own, with parameters by name if it gives any."""
    from rclpy.parameter import Parameter
    peer = Peer('peer', f'/{request.function.__name__}', parameter_overrides=[
        Parameter(name, value=value) for name, value in getattr(request, 'param', {}).items()])
    yield peer
    peer.node.destroy_node()


@pytest.fixture(scope='module')
def recorder(start: Callable[..., Process], peer: Peer, tmp_path_factory):
    """Return a recorder that is unconfigured; at last it is interrupted."""
    from recording_robot import RecordingRobot
    robot = RecordingRobot(start, peer, 'shared', tmp_path_factory.mktemp('shared'), '-p',
                           'autostart:=false')
    yield robot
    robot.end(signal.SIGINT)


@pytest.fixture
def record(recorder, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable]:
    """Return a function that lets it record topics below the test's name, with parameters."""
    def begin(*topics: str, **parameters):
        name = re.sub(r'\W+', '_', request.node.name).strip('_')
        recorder.record(f'/{name}', tmp_path / 'bags', topics, **parameters)
        return recorder

    yield begin
    recorder.finish()


@pytest.fixture
def image() -> np.ndarray:
    """Return a picture (37, 53, 3) uint8 of odd sizes, different in each pixel."""
    return np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)


@pytest.fixture(scope='session')
def pictures() -> list[np.ndarray]:
    """Return pictures of several odd sizes, (H, W, 3) uint8, with patches of all colours."""
    import cv2
    generator = np.random.default_rng(1)
    return [cv2.resize(generator.integers(0, 256, (5, 7, 3), np.uint8), size)
            for size in ((53, 37), (64, 48), (41, 75), (90, 20))]


@pytest.fixture(scope='session')
def segmenter(model_file: str):
    """Return what a node with `model_file` and precision fp32 should compute with."""
    from univseg_core.inference.segmenter import Segmenter
    return Segmenter.load(model_file, precision='fp32')


@pytest.fixture(scope='session')
def model_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a tiny random model with the domains outdoor and indoor."""
    import torch
    from univseg_core.domains import Domain
    from univseg_core.models.model_file import ModelCard, save_model
    from univseg_core.models.universal import ModelSpec, UniversalSegmenter
    torch.manual_seed(0)
    domains = [Domain.create('outdoor', ['road', 'sky', 'tree']),
               Domain.create('indoor', ['floor', 'wall'])]
    path = tmp_path_factory.mktemp('model') / 'tiny.univseg'
    save_model(path, UniversalSegmenter(ModelSpec(width=1 / 16, embedding_dim=8), domains),
               ModelCard())
    return str(path)


def runs_quick_model() -> bool:
    """Return whether the packages are there that make and run a quick model."""
    return all(map(importlib.util.find_spec, ('onnx', 'onnxruntime')))


@pytest.fixture(scope='session')
def quick_options(quick_model: str) -> tuple[str, ...]:
    """Return the options of a node that computes what `quick_segmenter` does."""
    backend = ('-p', 'backend:=onnxruntime') if runs_quick_model() else ()
    return '-p', f'model:={quick_model}', '-p', 'precision:=fp32', *backend


@pytest.fixture(scope='session')
def quick_segmenter(quick_model: str):
    """Return what a node with `quick_options` should compute with."""
    from univseg_core.inference.segmenter import Segmenter
    return Segmenter.load(quick_model, precision='fp32',
                          backend='onnxruntime' if runs_quick_model() else 'auto')


@pytest.fixture(scope='session')
def quick_model(tmp_path_factory: pytest.TempPathFactory,
                request: pytest.FixtureRequest) -> str:
    """
    Return the path of a model of these domains with which a node starts without PyTorch.

    Where what it takes is missing, it is `model_file`.
    """
    if not runs_quick_model():
        return request.getfixturevalue('model_file')
    from quick_model import write_quick_model
    from univseg_core.domains import Domain
    path = tmp_path_factory.mktemp('quick') / 'quick.onnx'
    write_quick_model(path, Domain.create('outdoor', ['road', 'sky', 'tree']),
                      Domain.create('indoor', ['floor', 'wall']))
    return str(path)


@pytest.fixture(scope='module')
def fault_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which a module's tests ask a faulty node for faults."""
    return tmp_path_factory.mktemp('faults')


@pytest.fixture
def make_bench() -> Iterator[Callable]:
    """Return a function that makes benches of frame workers, which are stopped at the end."""
    from frame_bench import Bench
    benches = []

    def make(**watched: list[str]) -> Bench:
        benches.append(Bench(**watched))
        return benches[-1]

    yield make
    for bench in benches:
        bench.worker.stop()
        assert not bench.worker._thread.is_alive()
        assert sum(bench.outcomes().values()) == bench.received()


@pytest.fixture
def bench(make_bench: Callable):
    """Return a bench on which the mask of the domain a is watched."""
    return make_bench(a=['mask'])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """Return a clock that stands still for the frame worker, unless a test advances it."""
    from fakes import Clock
    from univseg_ros import frame_worker, statistics
    clock = Clock()
    monkeypatch.setattr(frame_worker, 'time', clock)
    monkeypatch.setattr(statistics, 'time', clock)
    return clock
