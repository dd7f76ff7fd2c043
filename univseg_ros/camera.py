"""A camera of the segmentation node: its topics, its settings, and how it does."""

from collections.abc import Callable, Mapping
import json
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecyclePublisher
from std_msgs.msg import String
from univseg_core.inference.segmenter import Segmenter
from univseg_ros.camera_info import CameraInfos
from univseg_ros.camera_stream import CameraStream, FrameSettings
from univseg_ros.diagnostics import (
    frame_findings,
    frame_values,
    place_finding,
    place_values,
    size_finding,
)
from univseg_ros.findings import Finding
from univseg_ros.frame_worker import FrameWorker
from univseg_ros.image_input import ImageInput
from univseg_ros.losses import total
from univseg_ros.managed_node import ManagedNode
from univseg_ros.outputs import DomainOutputs
from univseg_ros.place import Place
from univseg_ros.qos import LATCHED_QOS


class Camera:
    """
    A camera: it subscribes to NAME/image, and publishes below ~/NAME.

    The only camera of a node may have the name '', and then the topics image and below ~. `value`
    gives a parameter of this camera. Between `configure` and `release` its publishers are there,
    between `activate` and `deactivate` its subscription.
    """

    def __init__(self, node: ManagedNode, name: str, value: Callable[[str], Any]):
        self._node = node
        self.name = name
        self._value = value
        self._prefix = f'~/{name}' if name else '~'
        self._image = f'{name}/image' if name else 'image'
        self.topic = node.resolve_topic_name(self._image)
        """Where its images come from, without /compressed."""
        self._infos = CameraInfos(node, self._image)
        self.info_topic = self._infos.topic
        self._outputs: dict[str, DomainOutputs] = {}
        self._active_domains: LifecyclePublisher | None = None
        self._place: Place | None = None
        self._input: ImageInput | None = None
        self._stream: CameraStream | None = None
        self._own_size: int | None = None
        self._settings = self._read_settings({})

    def configure(self, segmenter: Segmenter) -> None:
        """Make the publishers of a model's domains; raise RuntimeError for a QoS that is none."""
        domains, self._own_size = segmenter.domains, segmenter.own_size
        # First here and last at the end: by it, bag_recorder knows the others from cameras.
        self._active_domains = self._node.create_lifecycle_publisher(
            String, f'{self._prefix}/active_domains', LATCHED_QOS)
        for name, domain in domains.items():
            self._outputs[name] = DomainOutputs(
                self._node, domain, self._prefix, traversable=self._settings.traversable,
                camera_info_of=self._infos.of)
        self._place = Place(self._node, self._prefix, domains, self._active_domains,
                            self._pin_objection, self.announce_active_domains)

    def release(self) -> None:
        """Take back the publishers."""
        for outputs in self._outputs.values():
            outputs.close()
        self._outputs = {}
        if self._place is not None:
            self._place.close()
        self._place = None
        if self._active_domains is not None:
            self._node.destroy_lifecycle_publisher(self._active_domains)
        self._active_domains = None

    @property
    def output_topics(self) -> set[str]:
        """Return the topics of what is published of its frames, as remapped."""
        return {topic for outputs in self._outputs.values() for topic in outputs.topics}

    def activate(self, worker: FrameWorker, with_info: bool = True) -> None:
        """
        Hand images to a worker, and listen to camera_info or not.

        Raises ValueError for a QoS that there is not.
        """
        stream = CameraStream(self._outputs, lambda: self._settings, self._place)
        self._input = ImageInput(
            self._node, self._value('image_transport'), self._value('reliability'),
            self._value('depth'), lambda message: worker.put(stream, message),
            lambda: self._value('image_timeout'), self._image)
        self._stream = stream
        if with_info:
            self._infos.open()

    def announce(self) -> None:
        """Tell what the masks mean, and of which domains they will be."""
        self.announce_labels()
        assert self._place is not None  # since the node is configured
        if self._settings.is_auto:
            self._place.begin()
        else:
            self._place.end()
        self.announce_active_domains()

    def deactivate(self) -> None:
        """End the subscription; the worker may still have a frame of it."""
        if self._input is not None:
            self._input.close()
            self._input = None
            self._infos.close()

    def counts(self) -> str:
        """Return what became of the frames since it was activated, in words; forget it."""
        stream, self._stream = self._stream, None
        return '' if stream is None else ', '.join(
            f'{count} {name}' for name, count in stream.statistics.totals().items())

    def follow(self, new: Mapping[str, Any]) -> None:
        """Take new values of this camera's parameters into account, by their short names."""
        # First, since a new topic declares parameters, which come here as well.
        if 'traversable' in new:
            for outputs in self._outputs.values():
                outputs.offer_traversable(new['traversable'])
        was_auto = self._settings.is_auto
        self._settings = self._read_settings(new)
        if self._place is None:
            return
        if was_auto != self._settings.is_auto:
            if was_auto:
                self._place.end()
            else:
                self._place.begin()
        if self._stream is None:
            return
        if 'inference_size' in new:
            self._stream.lowered = None
        if 'active_domains' in new:
            self.announce_active_domains()
        if 'confidence_threshold' in new:
            self.announce_labels()

    def _pin_objection(self) -> str:
        """Say why no domain can be pinned; an empty text means that it can."""
        return '' if self._settings.is_auto else (
            'active_domains is not auto: there is nothing to pin or release')

    def domains_in_words(self) -> str:
        """Return which domains are active."""
        return ', '.join(self._settings.active_domains)

    def announce_labels(self) -> None:
        """Tell what the masks mean."""
        for outputs in self._outputs.values():
            outputs.announce(self._settings.confidence_threshold)

    def announce_active_domains(self) -> None:
        """Tell of which domains masks will be."""
        if self._active_domains is None or self._place is None:
            return
        names = list(self._settings.active_domains)
        if self._settings.is_auto:
            domain = self._place.now.domain
            names = [domain] if domain else []
        self._active_domains.publish(String(data=json.dumps(names)))

    def look(self) -> tuple[list[Finding], dict[str, str]]:
        """Return what diagnostics tell of it; nothing where it is not active, or not yet."""
        if self._input is None or self._stream is None or self._place is None:
            return [], {}
        findings, values = [], {'active domains': self.domains_in_words()}
        if self._settings.is_auto:
            values |= place_values(self._place.now)
            findings += place_finding(self._place.now)
        values['image topic'] = self._input.topic
        summary = self._stream.statistics.recent()
        values |= frame_values(summary, self._stream.statistics.totals())
        findings += frame_findings(summary, self._value('image_timeout'))
        asked = self._settings.inference_size or self._own_size
        size = self._stream.size(asked)
        values['inference size'] = str(size or "the image's own")
        if self._settings.is_auto:
            findings += size_finding(size, self._own_size)
        if size != asked:
            findings.append(Finding(
                DiagnosticStatus.WARN, f'memory ran out: inference_size is {size} instead of '
                f'{asked or "the size of the images"}'))
        if self._stream.grey:
            findings.append(Finding(DiagnosticStatus.OK, 'the images are grey, packed as YUV: '
                                    f'{self._stream.grey}'))
        values['camera_info topic'] = self._infos.state
        if problem := self._infos.problem:
            findings.append(Finding(DiagnosticStatus.WARN, problem))
        lost = self._input.losses
        values['images lost by the middleware'] = total([lost])
        if told := lost.told('images'):
            findings.append(Finding(DiagnosticStatus.WARN, told))
        if silence := self._input.silence():
            findings.append(Finding(DiagnosticStatus.ERROR, silence))
        return findings, values

    def _read_settings(self, new: Mapping[str, Any]) -> FrameSettings:
        """Return the settings that the parameters make, with some new values."""
        return FrameSettings(**{name: new[name] if name in new else self._value(name)
                                for name in FrameSettings.__annotations__})
