"""What a model file says of its model beside its weights; read without PyTorch."""

from dataclasses import asdict, dataclass, field

from univseg_core.errors import UnivsegError

METADATA_KEY = 'univseg'
"""Of a file's metadata: the key of the description."""

CHECKSUM_KEY = 'sha256'
"""Of the description: what tells whether the rest of it or a tensor is damaged."""

LARGEST_SIDE = 2**13
"""Pixels of the longest side at which a model may say that it sees images."""


class ModelFileError(UnivsegError):
    """A file that is not a model which this version can load."""


@dataclass(frozen=True)
class ModelSpec:
    """
    All that decides the network's shape, besides the domains.

    `encoder` is the encoder's name, `width` its channel multiplier, `embedding_dim` the D of
    the pixel and label embeddings, `stride` that of the features.
    """

    encoder: str = 'drn_d_22'
    width: float = 1.0
    embedding_dim: int = 128
    stride: int = 8

    def to_dict(self) -> dict:
        """Return the specification as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class ModelCard:
    """
    What a model file says of its model, beside its weights.

    `image_size` is the longest side in pixels of the images it learned from (None: as they
    came); `miou` the validation mIoU (0..1) of each domain; `training` how it was made.
    """

    image_size: int | None = None
    miou: dict[str, float] = field(default_factory=dict)
    training: dict = field(default_factory=dict)

    def to_dict(self) -> dict:
        """Return it as plain JSON values, the keys of a model file's description."""
        return {'image_size': self.image_size, 'miou': self.miou, 'training': self.training}

    @classmethod
    def from_dict(cls, description: dict) -> 'ModelCard':
        """Return what a description says; KeyError or ValueError for what is missing or wrong."""
        card = cls(description['image_size'], description['miou'], description['training'])
        if card.image_size is not None and not (
                type(card.image_size) is int and 0 < card.image_size <= LARGEST_SIDE):
            raise ValueError(f'image_size {card.image_size!r}: expected pixels, 1 to '
                             f'{LARGEST_SIDE}, or null')
        if not isinstance(card.miou, dict) or not isinstance(card.training, dict):
            raise ValueError('miou and training: expected keys and values')
        if not all(isinstance(value, int | float) for value in card.miou.values()):
            raise ValueError('miou: expected numbers')
        return card


def check_version(path: object, version: object, newest: int) -> None:
    """Raise ModelFileError for a format's version that is no number, or newer than `newest`."""
    if not isinstance(version, int) or version < 1:
        raise ModelFileError(f'{path}: format version {version!r}: expected an integer')
    if version > newest:
        raise ModelFileError(
            f'{path}: format version {version} is newer than {newest}, the newest '
            'that this univseg reads; update univseg')
