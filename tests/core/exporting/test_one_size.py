"""A file for images of one size, given others by commands: the image is named."""

from dataclasses import replace

from command_lines import assert_fails
from exported_models import CARD
import pytest
from tiny_worlds import configuration, random_image
from univseg_core.models.exported_file import Export, save_exported
from univseg_core.pictures.images import write_png


@pytest.fixture
def one_size(exported, tmp_path):
    """Return a file of a network that sees images at 64×48 alone."""
    path = tmp_path / 'fixed.onnx'
    save_exported(path, replace(exported.model, export=Export(size=(48, 64))), CARD)
    return path


@pytest.mark.parametrize('command', ['predict', 'rank', 'prelabel'])
def test_a_frame_that_does_not_fit_is_named(one_size, tmp_path, capsys, command):
    frames, out = tmp_path / 'frames', tmp_path / 'out'
    write_png(frames / '0.png', random_image(96, 128))
    write_png(frames / '1.png', random_image(64, 64))
    assert_fails(capsys, [command, frames, '--model', one_size, '--domain', 'indoor', '--backend',
                          'onnxruntime', '--quiet', '--out', out],
                 f'{frames / "1.png"}: an image of 64×64: this model was exported for images that '
                 'are seen at 64×48 alone')
    # predict writes masks as they come, and rank what it has seen, to go on from.
    assert command != 'prelabel' or not out.exists()


def test_a_validation_image_that_does_not_fit_is_named(exported, worlds, write_config, tmp_path,
                                                       capsys):
    path = tmp_path / 'fixed.onnx'
    save_exported(path, replace(exported.model, export=Export(size=(24, 64))), CARD)
    config = write_config(configuration(worlds))
    assert_fails(capsys, ['evaluate', path, '--config', config, '--backend', 'onnxruntime',
                          '--quiet'],
                 'outdoor/validation/image/00.png: an image of 64×48: this model was exported')
