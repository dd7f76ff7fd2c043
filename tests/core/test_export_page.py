"""What docs/export.md shows of exported models in other tools makes the masks of this package."""

from pathlib import Path
import re
import runpy

import cv2
import numpy as np
from onnx import helper, TensorProto
import pytest
from univseg_core.domains import Domain
from univseg_core.exporting.graph import with_heads
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.exported_file import Export, ExportedModel, save_exported
from univseg_core.models.heads import Heads, LinearMap
from univseg_core.models.model_card import ModelCard, ModelFileError, ModelSpec
from univseg_core.models.model_file import load_model
from univseg_core.models.normalisation import Normalisation

ROOT = Path(__file__).parents[2]
CLASSES = ('red', 'green', 'blue')


def mean_colours():
    """Return an ONNX model whose features are the mean colours of 4×4 pixels."""
    nodes = [
        helper.make_node('Cast', ['image'], ['pixels'], to=TensorProto.FLOAT),
        helper.make_node('Unsqueeze', ['pixels', 'first'], ['batch']),
        helper.make_node('Transpose', ['batch'], ['planes'], perm=[0, 3, 1, 2]),
        helper.make_node('AveragePool', ['planes'], ['means'], kernel_shape=[4, 4],
                         strides=[4, 4], ceil_mode=1),
        helper.make_node('Transpose', ['means'], ['features'], perm=[0, 2, 3, 1])]
    graph = helper.make_graph(
        nodes, 'mean_colours',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, ['height', 'width', 3])],
        [helper.make_tensor_value_info('features', TensorProto.FLOAT, [1, None, None, 3])],
        [helper.make_tensor('first', TensorProto.INT64, [1], [0])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)],
                             ir_version=10).SerializeToString()


@pytest.fixture
def exported(tmp_path):
    """Return the path of an exported model whose head says which colour is the largest."""
    head = LinearMap(np.eye(3, dtype=np.float32), np.array([0, 9, -9], np.float32))
    same = np.eye(3, dtype=np.float32)
    heads = Heads({'colours': head}, LinearMap(same, np.zeros(3, np.float32)), {'colours': same})
    path = tmp_path / 'model.onnx'
    save_exported(path, ExportedModel(
        path, with_heads(mean_colours(), heads.heads), Export(), ModelSpec('light', stride=4),
        Normalisation((0.5,) * 3, (0.5,) * 3), 3, heads,
        {'colours': Domain('colours', CLASSES, ((255, 0, 0), (0, 255, 0), (0, 0, 255)))}),
        ModelCard(image_size=67))
    return path


def test_the_example_of_the_page_makes_the_masks_of_the_package(exported, monkeypatch, capsys):
    blocks = re.findall(r'^```python\n(.*?)^```', (ROOT / 'docs' / 'export.md').read_text(
        encoding='utf-8'), re.DOTALL | re.MULTILINE)
    example, = (block for block in blocks if 'import onnxruntime' in block)
    further, = (block for block in blocks if 'import onnx\n' in block)
    monkeypatch.chdir(exported.parent)
    coarse = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    image = cv2.resize(coarse, (201, 155), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite('photo.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    Path('example.py').write_text(f'{example}\n{further}', encoding='utf-8')
    runpy.run_path('example.py')
    seen = cv2.cvtColor(cv2.imread('photo.jpg'), cv2.COLOR_BGR2RGB)
    expected = Segmenter.load(exported, backend='onnxruntime')(seen)['colours'].mask
    mask = cv2.imread('mask.png', cv2.IMREAD_UNCHANGED)
    assert mask.shape == (155, 201)
    assert np.bincount(mask.ravel()).min() > 1000
    assert (mask == expected).mean() > 0.999
    shares, export = capsys.readouterr().out.splitlines()
    assert all(name in shares for name in CLASSES)
    assert "'target': 'onnx'" in export


def test_what_needs_weights_says_that_an_export_has_none(exported):
    with pytest.raises(ModelFileError, match=r'model\.onnx: an exported model, which has no '
                                             r'weights .* \(NAME\.univseg\)'):
        load_model(exported)
