"""What segmentation nodes say of images, which recording policies go by: topics and words."""

from dataclasses import dataclass

from sensor_msgs.msg import Image
from std_msgs.msg import String
from univseg_core.recording.policies import CONFIDENCE, RECOGNITION
from univseg_ros.camera_topics import IMAGE, TEXT
from univseg_ros.raw_subscriptions import Content

ONLY_IN_AUTO = ("a segmentation node says what images are like while its active_domains are "
                "['auto'] and images come to it")


@dataclass(frozen=True)
class Evidence:
    """
    What nodes publish of images: its content, of one type, and whether each domain has its own.

    `missing` is said where no node publishes it.
    """

    content: Content
    of_domains: bool
    missing: str

    @property
    def type(self) -> str:
        """Return the type of its topics."""
        type_, = self.content.types
        return type_


EVIDENCE = {
    CONFIDENCE: Evidence(Content({IMAGE: Image}), True, 'no segmentation node publishes its '
                         'confidence, which the policy needs'),
    RECOGNITION: Evidence(Content({TEXT: String}, 'recognition', ONLY_IN_AUTO), False, 'no '
                          'segmentation node publishes its recognition, which the policy needs; '
                          f'{ONLY_IN_AUTO}'),
}
"""By what a policy needs, which is also the last part of the topics' names."""
