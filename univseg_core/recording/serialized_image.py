"""Image messages on their way into a bag, and what is said of them."""

from dataclasses import dataclass
import struct

from univseg_core.bags.topics import Topic

HEADER = (struct.Struct('>iII'), struct.Struct('<iII'))
"""Seconds and nanoseconds of a header, and the length of its frame_id, in both byte orders."""

LENGTH = (struct.Struct('>I'), struct.Struct('<I'))
"""The length of a text, in both byte orders."""

ENCAPSULATION = 4
"""Bytes before a message in CDR; the second of them tells the byte order."""


@dataclass(frozen=True)
class SerializedImage:
    """
    An image message: its topic, when it came and was published, in ns, and its bytes in CDR.

    It may also be a std_msgs/String that says something of an image.
    """

    topic: Topic
    time: int
    published: int
    data: bytes

    def header(self) -> tuple[int, bytes]:
        """
        Return the header's stamp in nanoseconds and its frame_id, without deserialising the rest.

        Raises ValueError where the message is too short to have them.
        """
        try:
            seconds, nanoseconds, length = HEADER[self.data[1] & 1].unpack_from(
                self.data, ENCAPSULATION)
        except (struct.error, IndexError) as error:
            raise ValueError(f'a message of {len(self.data)} bytes has no header') from error
        begin = ENCAPSULATION + HEADER[0].size
        return seconds * 10**9 + nanoseconds, self.data[begin:begin + length].rstrip(b'\0')

    def text(self) -> str:
        """Return the text of a std_msgs/String; raises ValueError where its bytes are none."""
        return text_in(self.data)


def text_in(data: bytes) -> str:
    """Return the text of a std_msgs/String in CDR; raises ValueError where its bytes are none."""
    try:
        length, = LENGTH[data[1] & 1].unpack_from(data, ENCAPSULATION)
    except (struct.error, IndexError) as error:
        raise ValueError(f'a message of {len(data)} bytes has no text') from error
    begin = ENCAPSULATION + LENGTH[0].size
    if begin + length > len(data):
        raise ValueError(f'a text of {length} bytes in a message of {len(data)}')
    return data[begin:begin + length].rstrip(b'\0').decode()
