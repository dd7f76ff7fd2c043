"""Compressed chunks, messages and files of bags, unpacked as far as a limit and no further."""

from functools import cache
from types import ModuleType
from typing import BinaryIO

ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
"""With which no message in CDR begins."""

ZSTD_HEAD = 18
"""Bytes of a frame's beginning, at most, that tell of the rest."""

TOO_LARGE = 'too large'

PACKED_BLOCK = 1 << 15
"""Bytes of a file that are unpacked at a time; each frame in them copies the rest."""

BLOCK = 1 << 20


@cache  # Python looks for a module that is missing afresh each time.
def zstd() -> ModuleType:
    """Return Python's module for Zstandard, which came with 3.14, or its backport."""
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    return zstd


def decompress(data: bytes | memoryview, compression: str, most: int) -> bytes:
    """
    Return the content of compressed bytes, as far as it can be had.

    Raises ValueError where they are damaged, compressed in an unknown way, or of more than `most`
    bytes, of which no more are unpacked.
    """
    if not compression:
        return bytes(data)
    if compression == 'zstd':
        told = size_unpacked(data[:ZSTD_HEAD])
        if told is not None and told > most:
            raise ValueError(f'zstd: more than {most} bytes unpacked')
        most = most if told is None else told
        decompressor, errors = zstd().ZstdDecompressor(), zstd().ZstdError
    elif compression == 'lz4':
        import lz4.frame
        decompressor, errors = lz4.frame.LZ4FrameDecompressor(), RuntimeError
    else:
        raise ValueError(f'unknown compression {compression[:20]!r}; expected zstd or lz4')
    try:
        content = decompressor.decompress(data, most + 1)
    except errors as error:
        raise ValueError(f'{compression}: {error}') from error
    if len(content) > most:
        raise ValueError(f'{compression}: more than {most} bytes unpacked')
    return content


def unpacked_in_vain(data: bytes | memoryview, most: int) -> int:
    """Return how many bytes `decompress` unpacked of zstd data, at most, before it failed."""
    try:
        told = zstd().get_frame_info(data[:ZSTD_HEAD]).decompressed_size
    except zstd().ZstdError:
        return 0
    return most if told is None else told if told <= most else 0


def unpack_file(source: BinaryIO, target: BinaryIO, most: int) -> str | None:
    """
    Unpack a zstd file as far as it goes, but no more than `most` bytes.

    Return what is wrong with it: TOO_LARGE where it has more.
    """
    frame, left = zstd().ZstdDecompressor(), most
    try:
        while block := source.read(PACKED_BLOCK):
            while block or not (frame.eof or frame.needs_input):
                if frame.eof:
                    frame = zstd().ZstdDecompressor()
                content = frame.decompress(block, min(BLOCK, left + 1))
                target.write(content[:left])
                left -= len(content)
                if left < 0:
                    return TOO_LARGE
                block = frame.unused_data
    except zstd().ZstdError as error:
        return str(error)
    return None if frame.eof else 'the end is missing'


def size_unpacked(head: bytes | memoryview) -> int | None:
    """Return the size that the beginning of a zstd file tells; None where it tells none."""
    try:
        return zstd().get_frame_info(head).decompressed_size
    except zstd().ZstdError:
        return None
