"""A tiny network, and the files that were made of it."""

import base64
from dataclasses import dataclass
import hashlib
import json
from pathlib import Path

import onnx
from safetensors.numpy import load, save
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.exported_file import ExportedModel
from univseg_core.models.model_card import ModelCard
from univseg_core.models.universal import UniversalSegmenter

CARD = ModelCard(image_size=64, miou={'outdoor': 0.25, 'indoor': 0.5},
                 training={'config': {'note': 'α'}})

BACKENDS = ('onnxruntime', 'openvino')


@dataclass(frozen=True)
class Exported:
    """
    A network of `light`, and its files: the model file, and one that was exported.

    `encoder` is the ONNX model of the encoder alone, `model` what the exported file holds.
    """

    network: UniversalSegmenter
    source: Path
    path: Path
    encoder: bytes
    model: ExportedModel

    def original(self, **options) -> Segmenter:
        """Return the model in PyTorch, on the CPU in fp32."""
        return Segmenter(self.network, CARD, device='cpu', precision='fp32', backend='torch',
                         **options)


def parts_of(path: Path) -> tuple[bytes, dict, dict]:
    """Return the network, the heads and the description of an exported file, by onnx alone."""
    model = onnx.load(path)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    network = path.read_bytes()[:-len(_entries(entries))]
    return network, load(base64.b64decode(entries['univseg_heads'])), json.loads(
        entries['univseg'])


def write_parts(path: Path, network: bytes, heads: dict, description: dict) -> Path:
    """Write an exported file of parts, with the checksum that they have."""
    arrays = save(heads)
    described = {key: value for key, value in description.items() if key != 'sha256'}
    digest = hashlib.sha256(json.dumps(described).encode() + arrays + network).hexdigest()
    path.write_bytes(network + _entries({
        'univseg_heads': base64.b64encode(arrays).decode(),
        'univseg': json.dumps({**described, 'sha256': digest})}))
    return path


def _entries(entries: dict[str, str]) -> bytes:
    """Return entries of an ONNX model's metadata, in protobuf: what follows is merged."""
    return onnx.ModelProto(metadata_props=[
        onnx.StringStringEntryProto(key=key, value=entries[key])
        for key in ('univseg_heads', 'univseg')]).SerializeToString()
