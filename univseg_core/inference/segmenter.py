"""A model file and an image → masks."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
import threading
from typing import Any

import numpy as np
from univseg_core.domains import Domain, DomainError, IGNORE_INDEX
from univseg_core.errors import did_you_mean, UnivsegError
from univseg_core.inference.backends import Array, BACKENDS, Network, TakesBatches
from univseg_core.inference.batches import BatchTimes, measure_batches
from univseg_core.inference.choice import choose_backend, usual_size
from univseg_core.inference.class_confidence import class_confidence
from univseg_core.inference.full_resolution import top_classes
from univseg_core.models.domain_evidence import at_cells, DomainEvidence, Recognition
from univseg_core.models.exported_file import ExportedModel, is_exported, load_exported
from univseg_core.models.heads import LinearMap
from univseg_core.models.model_card import ModelCard
from univseg_core.pictures.images import fit_size, resize_image


@dataclass(frozen=True)
class Segmentation:
    """
    What one domain's head says of an image.

    `mask` (H, W) uint8 holds class indices in the domain's order, and 255 where none is sure
    enough; `confidence` (H, W) uint8 the top class's softmax probability as 0..255, and
    `class_confidence` (C,) float64 what `class_confidence` makes of the cells, or None where
    these were not asked for.
    """

    mask: np.ndarray
    confidence: np.ndarray | None = None
    class_confidence: np.ndarray | None = None


@dataclass(frozen=True)
class Request:
    """An image and what is wanted of it: the arguments of a call of a Segmenter."""

    image: np.ndarray
    domains: Sequence[str] | Callable[[Recognition], Sequence[str]]
    confidence: bool | Collection[str] = False
    threshold: float = 0.0
    inference_size: int | None = None
    class_confidence: Collection[str] = ()


@dataclass(frozen=True)
class Encoded:
    """
    An image after its encoder pass.

    `features` (C_F, h, w) float32 at the model's stride are those of the image scaled to
    `network_size`, (height, width); `size` is its own. They lie where the backend has them: on
    a CPU, they are an array, which is good until the next images are encoded.
    """

    features: Array
    network_size: tuple[int, int]
    size: tuple[int, int]


class Segmenter:
    """
    The deployed model: its encoder, run by a backend, and its heads, on one device.

    `domains` maps names to Domain in the model's order; `card` is what the file says of itself.
    Images are scaled so that their longest side is `inference_size`, which may be set between
    calls, and masks come back at the image's own size. `backend` is the name of what runs the
    encoder, `device` where it runs (cpu, cuda:0 …), `precision` what it computes in (fp32, bf16,
    fp16, int8); all else is float32. `measured` are the milliseconds of an encoder pass by each
    backend where they were compared for this choice. `stride` are the pixels, of the image that
    the network sees, from one cell to the next; `only_size` is the (height, width) in pixels of
    the only images that the network takes, None where it takes any. `evidence` is what
    `recognise` goes by, None in a file without it.

    Several threads may call it, and take turns; `encode` and what takes its result are for one
    thread alone.
    """

    def __init__(self, model: Network, card: ModelCard, *, device: str = 'auto',
                 precision: str = 'auto', inference_size: int | None = None,
                 backend: str = 'auto'):
        self.card = card
        self.stride = model.stride
        self.domains: dict[str, Domain] = dict(model.domains)
        self.only_size = model.export.size if isinstance(model, ExportedModel) else None
        self.inference_size = inference_size
        self.backend, self._backend, self.measured = choose_backend(
            backend, model, device, precision, self.inference_size)
        self.device = self._backend.device
        self.precision = self._backend.precision
        heads = model.heads if isinstance(model, ExportedModel) else model.as_arrays()
        self.evidence = model.evidence
        self._heads = heads.heads
        self._together: dict[tuple[str, ...], LinearMap] = {}
        self._lock = threading.Lock()
        self._label_embeddings = heads.label_embeddings
        self._embedding = heads.embedding
        self._label_embedding_heads: dict[str, tuple[LinearMap, list[int]]] = {}

    @classmethod
    def load(cls, path: Path | str, *, device: str = 'auto', precision: str = 'auto',
             inference_size: int | None = None, backend: str = 'auto') -> 'Segmenter':
        """
        Load a model file, or one that `univseg export` has made.

        `backend` is one of BACKENDS, or auto: of those that are installed and run the file, the
        fastest. `device` and `precision` are as the attributes, or auto. Raises ModelFileError
        where the file is not a model, UnivsegError for an unknown backend, device or precision,
        or one that does not run this file.
        """
        return cls(*load_network(path), device=device, precision=precision,
                   inference_size=inference_size, backend=backend)

    @property
    def inference_size(self) -> int | None:
        """
        Return the longest side, in pixels, that images are scaled to; None: they are not scaled.

        May be set; None or 0 stand for the size of the images that the model learned from, which
        is the default. Anything else but a positive integer raises UnivsegError.
        """
        return self._inference_size

    @inference_size.setter
    def inference_size(self, size: int | None) -> None:
        if size is not None and (not isinstance(size, Integral) or size < 0):
            raise UnivsegError(f'inference size {size!r}: expected a number of pixels')
        if objection := self.size_objection(size):
            raise UnivsegError(objection)
        self._inference_size = int(size) if size else self.own_size

    @property
    def own_size(self) -> int | None:
        """Return the inference size that None stands for."""
        return max(self.only_size) if self.only_size else self.card.image_size

    def size_objection(self, size: int | None) -> str:
        """Say why the network cannot take an inference size in pixels; '' where it can."""
        if not size or self.only_size is None or size == max(self.only_size):
            return ''
        return f'inference size {size}: {self._only_size_in_words}'

    @property
    def _only_size_in_words(self) -> str:
        assert self.only_size is not None
        height, width = self.only_size
        return (f'this model was exported for images that are seen at {width}×{height} alone; '
                'export it with another --size, or --size any')

    def network_size(self, height: int, width: int, inference_size: int | None = None
                     ) -> tuple[int, int]:
        """Return the (height, width) at which the network sees an image of a size."""
        return fit_size(height, width, inference_size or self.inference_size)

    def __call__(self, image: np.ndarray,
                 domains: Sequence[str] | Callable[[Recognition], Sequence[str]] | None = None, *,
                 confidence: bool | Collection[str] = False, threshold: float = 0.0,
                 inference_size: int | None = None,
                 class_confidence: Collection[str] = ()) -> dict[str, Segmentation]:
        """
        Segment an image (H, W, 3) uint8 RGB in the label spaces of `domains` (None: of all).

        One encoder pass serves all of them, and the choice among them, where `domains` is a
        function: it is asked once, with what the image was recognised as. Each mask is exactly
        the largest of the logits after bilinear upsampling, or 255 where its softmax probability
        is below `threshold` (0..1). The confidence is that of all, of none, or of the domains
        that are named, and so is the class confidence. `inference_size` in pixels takes the place
        of the segmenter's for this image.

        Raises ValueError for another shape or dtype, or a threshold outside 0..1,
        DomainError for an unknown domain (before anything is computed, unless a function names
        it), and as `recognise` does.
        """
        if not callable(domains):
            domains = list(self.domains if domains is None else domains)
        request = Request(image, domains, confidence, threshold, inference_size, class_confidence)
        if domains == []:
            self._check(request)
            return {}
        segment, = self.segment_together([request])
        return segment()

    def segment_together(self, requests: Sequence[Request]
                         ) -> list[Callable[[], dict[str, Segmentation]]]:
        """
        Encode images at once; return, for each, what makes its masks when it is called.

        What it makes is what calling the segmenter with each image returns. The network sees all
        at one size, and they are several only where it `takes_batches`. Raises as a call does, if
        anything is wrong with one of them, and ValueError for images that cannot go together.
        """
        for request in requests:
            self._check(request)
        found: list[Callable[[], dict[str, Segmentation]]] = []
        with self._lock:  # until the logits are there, the features are the backend's own
            encoded = self.encode_together([each.image for each in requests],
                                           [each.inference_size for each in requests])
            for request, each in zip(requests, encoded, strict=True):
                names = self._names(request, each)
                logits = self._all_logits(each, names) if names else {}
                found.append(partial(self._masks, request, {name: logits[name] for name in names},
                                     each.network_size))
        return found

    def _check(self, request: Request) -> None:
        """Raise what is wrong with a request, but for its image, before anything is computed."""
        if callable(request.domains):
            self.check_evidence()
        else:
            self.check_domains(request.domains)
        if not 0 <= request.threshold <= 1:
            raise ValueError(f'threshold {request.threshold}: expected a probability, 0..1')

    def _names(self, request: Request, encoded: Encoded) -> Sequence[str]:
        """Return the domains that are wanted of an image, in that order."""
        if not callable(request.domains):
            return request.domains
        names = request.domains(self.recognise(encoded))
        self.check_domains(names)
        return names

    def _masks(self, request: Request, logits: Mapping[str, Any], network_size: tuple[int, int]
               ) -> dict[str, Segmentation]:
        """Return what the logits of some domains say of each pixel of an image."""
        confident = request.confidence
        if isinstance(confident, bool):
            confident = logits if confident else ()
        return {name: Segmentation(
                    *self._backend.top_classes(
                        each, network_size, request.image.shape[:2], self.stride,
                        confidence=name in confident, threshold=request.threshold),
                    class_confidence(on_cpu(each)) if name in request.class_confidence else None)
                for name, each in logits.items()}

    def check_domains(self, names: Sequence[str]) -> None:
        """Raise DomainError, which lists the valid names, if one is not the model's."""
        for name in names:
            if name not in self.domains:
                raise DomainError(
                    f'unknown domain {name!r}; this model has {", ".join(self.domains)}'
                    f'{did_you_mean(name, self.domains)}')

    def encode(self, image: np.ndarray, inference_size: int | None = None) -> Encoded:
        """
        Run the encoder on an image (H, W, 3) uint8 RGB, at the segmenter's size or another.

        Raises ValueError for another shape or dtype, UnivsegError for a shape that a network for
        one size alone does not take.
        """
        encoded, = self.encode_together([image], [inference_size])
        return encoded

    def encode_together(self, images: Sequence[np.ndarray], inference_sizes: Sequence[int | None]
                        ) -> list[Encoded]:
        """
        Encode images, each at its own inference size, in one pass of the encoder.

        Raises as `encode` does, and ValueError where the network sees them at different sizes, or
        they are several and it does not take batches.
        """
        seen = [self._as_seen(*each) for each in zip(images, inference_sizes, strict=True)]
        if len(seen) == 1:
            features: Sequence[Array] = [self._backend.features(seen[0])]
        elif not isinstance(self._backend, TakesBatches):
            raise ValueError(f'{len(seen)} images at once: {self.backend} takes one')
        elif len({each.shape for each in seen}) > 1:
            raise ValueError('images of different sizes, as the network sees them: expected one')
        else:
            features = self._backend.features_of_several(np.stack(seen))
        return [Encoded(each, small.shape[:2], image.shape[:2])
                for each, small, image in zip(features, seen, images, strict=True)]

    def _as_seen(self, image: np.ndarray, inference_size: int | None) -> np.ndarray:
        """Return an image as the network sees it, uint8; raise as `encode` does."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f'expected an image of shape (H, W, 3) and dtype uint8, got {image.shape} of '
                f'{image.dtype}')
        height, width = image.shape[:2]
        network_size = self.network_size(height, width, inference_size)
        if self.only_size not in (None, network_size):
            raise UnivsegError(f'an image of {image.shape[1]}×{image.shape[0]}: '
                               f'{self._only_size_in_words}')
        # Smaller before it becomes floats; a copy, as an image may be read-only or a view.
        return np.array(resize_image(image, *network_size), order='C')

    @property
    def takes_batches(self) -> bool:
        """Return whether several images can go through the encoder at once."""
        return isinstance(self._backend, TakesBatches)

    def measure_batches(self, most: int, inference_size: int | None = None) -> BatchTimes:
        """
        Measure whether, of the usual size, up to `most` images at once are faster than one by one.

        Where the backend takes no batches, one image is the answer. It takes some seconds.
        """
        backend = self._backend
        if not isinstance(backend, TakesBatches):
            return BatchTimes()

        def encode(images: np.ndarray) -> None:
            with self._lock:
                last = backend.features_of_several(images)[-1]
                on_cpu(last[:1, :1, :1])  # which waits for a GPU
        # On a GPU, those before its passes are graphs, and the one in which they become some.
        return measure_batches(encode, most, usual_size(inference_size or self.inference_size),
                               first=1 if self.device == 'cpu' else 5)

    def recognise(self, encoded: Encoded) -> Recognition:
        """
        Return which domain an encoded image shows, and how unlike all of them it is.

        Raises UnivsegError where the model has no evidence of its domains.
        """
        return self.check_evidence().of_cells(on_cpu(at_cells(encoded.features)))

    def check_evidence(self) -> DomainEvidence:
        """Return the evidence; raise UnivsegError, which names what adds it, where it has none."""
        if self.evidence is None:
            raise UnivsegError('this model file has no evidence by which images of its domains '
                               'are recognised; `univseg recognise` adds it from images of each')
        return self.evidence

    def _all_logits(self, encoded: Encoded, names: Sequence[str]) -> dict[str, Any]:
        """Run the heads of some domains in one product, which reads the features once."""
        key = tuple(sorted({*names}))
        if key not in self._together:
            self._together[key] = self._backend.linear(LinearMap(*(
                np.concatenate(parts) for parts in zip(*(self._heads[name] for name in key),
                                                       strict=True))))
        together = self._together[key](encoded.features)
        ends = np.cumsum([len(self._heads[name].bias) for name in key])
        return {name: together[end - len(self._heads[name].bias):end]
                for name, end in zip(key, ends, strict=True)}

    def logits(self, encoded: Encoded, name: str) -> np.ndarray:
        """Run a domain's head: its logits, (C, h, w) float32, at the model's stride."""
        return on_cpu(self._all_logits(encoded, [name])[name])

    def head_mask(self, encoded: Encoded, name: str) -> np.ndarray:
        """Return the mask (H, W) uint8 of a domain's head, as calling the segmenter does."""
        mask, _ = self._backend.top_classes(
            self._all_logits(encoded, [name])[name], encoded.network_size, encoded.size,
            self.stride)
        return mask

    def features(self, encoded: Encoded) -> np.ndarray:
        """Return the features F(x), (C_F, h, w) float32, of an encoded image."""
        return on_cpu(encoded.features)

    def embed(self, encoded: Encoded) -> np.ndarray:
        """Return the pixel embeddings E(F(x)), (D, h, w) float32, of an encoded image."""
        return self._embedding(self.features(encoded))

    @property
    def has_label_embeddings(self) -> bool:
        """Return whether the model has label embeddings of each of its domains."""
        return all(vectors.any() for vectors in self._label_embeddings.values())

    def label_embeddings(self, name: str) -> np.ndarray:
        """
        Return a domain's label embeddings (C·K, D); zero for a class no labelled image showed.

        Raises DomainError for an unknown domain, UnivsegError where the model has none of it.
        """
        self.check_domains([name])
        vectors = self._label_embeddings[name]
        if not vectors.any():
            raise UnivsegError(f'this model has no label embeddings of {name}: nothing but its '
                               'head can tell the classes of that domain')
        return vectors

    def label_embedding_mask(self, encoded: Encoded, name: str,
                             among: Sequence[str] | None = None) -> np.ndarray:
        """
        Return the mask (H, W) uint8 of the nearest label embeddings of a domain's label space.

        The image may be of any domain. A pixel has the class whose label embedding has the
        largest dot product with the pixel's embedding: cell by cell, then upsampled as logits are.
        With the names of several domains in `among`, the nearest is sought among the label
        embeddings of all of them, and is 255 where it belongs to another than `name`.

        Raises as `label_embeddings` does, and ValueError for more than 255 classes in all.
        """
        scores, classes = [], []
        for each in (name,) if among is None else among:
            similar, present = self.label_embedding_scores(encoded, each)
            scores.append(similar)
            classes += present if each == name else [IGNORE_INDEX] * len(present)
        if len(classes) > IGNORE_INDEX:
            raise ValueError(f'{len(classes)} classes in all: expected at most {IGNORE_INDEX}')
        mask, _ = top_classes(np.concatenate(scores), encoded.network_size, encoded.size,
                              self.stride)
        names = np.full(256, IGNORE_INDEX, np.uint8)
        names[:len(classes)] = classes
        return names[mask]

    def label_embedding_scores(self, encoded: Encoded, name: str
                               ) -> tuple[np.ndarray, list[int]]:
        """
        Return how near each pixel is to each class's label embeddings, at the model's stride.

        These are dot products (P, h, w) float32, the largest of a class's K; with them, the
        indices of the P classes that have label embeddings. Raises as `label_embeddings` does.
        """
        nearness, present = self._label_embedding_head(name)
        similar = nearness(self.features(encoded))
        return similar.reshape(len(present), -1, *similar.shape[1:]).max(1), present

    def _label_embedding_head(self, name: str) -> tuple[LinearMap, list[int]]:
        """
        Return E and a domain's label embeddings in one, with P = C·K outputs.

        Both are linear, so that a label space costs what a head of so many channels does. With
        it, the classes that have label embeddings at all.
        """
        if name not in self._label_embedding_heads:
            rows = self.label_embeddings(name)
            per_class = rows.reshape(len(self.domains[name].classes), -1, rows.shape[1])
            present = per_class.any((1, 2))
            rows = per_class[present].reshape(-1, rows.shape[1])
            weight, bias = self._embedding
            self._label_embedding_heads[name] = (
                LinearMap(rows @ weight, rows @ bias), np.flatnonzero(present).tolist())
        return self._label_embedding_heads[name]


def load_network(path: Path | str) -> tuple[Network, ModelCard]:
    """Return what a model file, or one that was exported, holds; raise ModelFileError."""
    if Path(path).is_file() and is_exported(Path(path)):
        return load_exported(path)
    try:
        from univseg_core.models.model_file import load_model  # and with it PyTorch
    except ImportError as error:
        raise UnivsegError(
            f'{path}: a model file is run by PyTorch, which cannot be imported ({error}): pip '
            f'install {BACKENDS["torch"].pip}; or export it, where that is, by `univseg export`, '
            'for ONNX Runtime or OpenVINO') from error
    return load_model(path)


def on_cpu(values: Array) -> np.ndarray:
    """Return an array, of what may be a tensor of PyTorch on any device."""
    return values if isinstance(values, np.ndarray) else values.cpu().numpy()
