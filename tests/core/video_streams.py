"""Small videos and packets of videos, encoded by PyAV."""

from fractions import Fraction

from bag_files import BEGIN, header, STEP, STORE
import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg
from univseg_core.bags.reading import PACKET_TYPES

FFMPEG, FOXGLOVE = PACKET_TYPES
COMPRESSED = 'sensor_msgs/msg/CompressedImage'

ENCODERS = {
    'h264': ('libx264', {'preset': 'ultrafast', 'tune': 'fastdecode'}),
    'hevc': ('libx265', {'preset': 'ultrafast', 'x265-params': 'log-level=none'}),
    'av1': ('libsvtav1', {'preset': '12', 'svtav1-params': 'lp=1'}),
    'vp9': ('libvpx-vp9', {'cpu-used': '8', 'deadline': 'realtime', 'lag-in-frames': '0'}),
}
"""An encoder of each codec, and what makes it quick."""

for _name, _definition in PACKET_TYPES.items():
    STORE.register(get_types_from_msg(_definition, _name))


def moving(count, shape=(64, 96)):
    """Make BGR pictures (H, W, 3) uint8 of one coarse scene that moves, none like the last."""
    coarse = np.random.default_rng(1).integers(0, 256, (12, 40, 3), np.uint8)
    scene = cv2.resize(coarse, (16 * 40, 16 * 12), interpolation=cv2.INTER_CUBIC)
    height, width = shape
    return [np.ascontiguousarray(scene[number:number + height, 9 * number:9 * number + width])
            for number in range(count)]


def encoded(pictures, codec='h264', keyframe_every=6, b_frames=0, x264=None):
    """
    Return the packets of BGR pictures, as they are sent: the picture's number, and the bytes.

    Without B-frames, both orders are one. `x264` are parameters of that encoder.
    """
    av = pytest.importorskip('av')
    encoder, options = ENCODERS[codec]
    if encoder not in av.codecs_available:
        pytest.skip(f'this PyAV has no {encoder}')
    context = av.CodecContext.create(encoder, 'w')
    context.height, context.width = pictures[0].shape[:2]
    context.pix_fmt, context.time_base, context.framerate = 'yuv420p', Fraction(1, 10), 10
    context.gop_size, context.max_b_frames, context.options = keyframe_every, b_frames, options
    if x264:
        context.options = options | {'x264-params': x264}
    context.thread_count = 1
    packets = []
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format='bgr24')
        frame.pts = number
        packets += context.encode(frame)
    packets += context.encode(None)
    return [(packet.pts, bytes(packet)) for packet in packets]


def reference(packets, codec='h264'):
    """Return the pictures of a whole stream in their order, as PyAV alone decodes them."""
    import av
    context = av.CodecContext.create('libdav1d' if codec == 'av1' else codec, 'r')
    frames = []
    for _, data in packets:
        frames += context.decode(av.Packet(data))
    return [frame.to_ndarray(format='bgr24') for frame in [*frames, *context.decode(None)]]


def write_packets(path, packets, type_=FFMPEG, format_='h264', topic='/video'):
    """
    Write a bag of (number, bytes), a message each, whose stamps are those of their pictures.

    They were recorded as they come, STEP after each other.
    """
    types = STORE.types
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(topic, type_, typestore=STORE)
        for at, (number, data) in enumerate(packets):
            head, bytes_ = header(number), np.frombuffer(data, np.uint8)
            message = {
                FFMPEG: lambda head=head, data=bytes_, pts=number: types[FFMPEG](
                    head, 0, 0, format_, pts, 0, False, data),
                FOXGLOVE: lambda head=head, data=bytes_: types[FOXGLOVE](
                    head.stamp, 'camera', data, format_),
                COMPRESSED: lambda head=head, data=bytes_: types[COMPRESSED](
                    head, format_, data)}[type_]()
            writer.write(connection, BEGIN + at * STEP, STORE.serialize_cdr(message, type_))
    return path


def number_of(row):
    """Return the number of a row's picture in the stream, by its stamp."""
    return (row.stamp - 5 - BEGIN) // STEP


def write_video(path, pictures, times, codec='h264'):
    """Write BGR pictures as a video, at times in milliseconds."""
    av = pytest.importorskip('av')
    encoder, options = ENCODERS[codec]
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(encoder, rate=30, options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = 'yuv420p'
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.thread_count = 1
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format='bgr24')
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def turn(video):
    """Let an MP4 file say that its pictures are to be turned by a quarter, clockwise."""
    data = video.read_bytes()
    upright = b''.join(number.to_bytes(4, 'big') for number in (
        1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))
    turned = b''.join((number % 2**32).to_bytes(4, 'big') for number in (
        0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30))
    at = data.index(upright, data.index(b'tkhd'))
    video.write_bytes(data[:at] + turned + data[at + len(turned):])
