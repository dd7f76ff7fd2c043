"""A model that a node loads without PyTorch, which takes most of its start."""

from pathlib import Path

import numpy as np
from univseg_core.domains import Domain
from univseg_core.models.exported_file import Export, ExportedModel, save_exported
from univseg_core.models.heads import Heads, LinearMap
from univseg_core.models.model_card import ModelCard, ModelSpec
from univseg_core.models.normalisation import IMAGENET

CHANNELS = 12


def write_quick_model(path: Path, *domains: Domain, size: tuple[int, int] | None = None) -> None:
    """Write an exported model with random features of patches of 8×8 pixels; needs onnx."""
    generator = np.random.default_rng(0)

    def linear(outputs: int) -> LinearMap:
        return LinearMap(generator.normal(size=(outputs, CHANNELS)).astype(np.float32),
                         np.zeros(outputs, np.float32))

    heads = Heads({domain.name: linear(len(domain.classes)) for domain in domains},
                  linear(CHANNELS),
                  {domain.name: linear(len(domain.classes)).weight for domain in domains})
    save_exported(path, ExportedModel(
        path, _patches(generator.normal(0, 1e-3, (CHANNELS, 3, 8, 8)).astype(np.float32)),
        Export(size=size), ModelSpec('patches', embedding_dim=CHANNELS), IMAGENET, CHANNELS, heads,
        {domain.name: domain for domain in domains}), ModelCard())


def _patches(weights: np.ndarray) -> bytes:
    """Return an ONNX model: image (H, W, 3) → a convolution of weights (C, 3, 8, 8)."""
    import onnx
    from onnx import helper, numpy_helper
    nodes = [
        helper.make_node('Cast', ['image'], ['floats'], to=onnx.TensorProto.FLOAT),
        helper.make_node('Sub', ['floats', 'grey'], ['centred']),
        helper.make_node('Transpose', ['centred'], ['planes'], perm=[2, 0, 1]),
        helper.make_node('Unsqueeze', ['planes', 'axes'], ['batch']),
        helper.make_node('Conv', ['batch', 'weights'], ['cells'], strides=[8, 8],
                         kernel_shape=[8, 8], auto_pad='SAME_UPPER'),
        helper.make_node('Transpose', ['cells'], ['features'], perm=[0, 2, 3, 1])]
    graph = helper.make_graph(
        nodes, 'patches',
        [helper.make_tensor_value_info('image', onnx.TensorProto.UINT8, ['h', 'w', 3])],
        [helper.make_tensor_value_info('features', onnx.TensorProto.FLOAT,
                                       [1, None, None, CHANNELS])],
        [numpy_helper.from_array(weights, 'weights'),
         numpy_helper.from_array(np.array(127.5, np.float32), 'grey'),
         numpy_helper.from_array(np.array([0]), 'axes')])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)],
                             ir_version=8).SerializeToString()
