"""What `univseg train`, `evaluate` and `predict` write and print."""

import json
import os
import shutil

from command_lines import assert_fails
import numpy as np
from tiny_worlds import INDOOR, random_image, VALIDATION
from univseg_core.cli import main
from univseg_core.inference.segmenter import Segmenter
from univseg_core.pictures.images import read_image, read_label, write_png


def test_evaluate_prints_the_figures_of_the_run(finished_run, tmp_path, capsys):
    folder, _ = finished_run
    assert main(['evaluate', str(folder), '--device', 'cpu',
                 '--out', str(tmp_path / 'new' / 'figures.json')]) == 0
    printed = capsys.readouterr().out
    figures = json.loads((folder / 'evaluation.json').read_text())
    assert json.loads((tmp_path / 'new' / 'figures.json').read_text()) == figures
    for name, result in figures.items():
        assert f'### {name}' in printed
        assert f'**{100 * result["miou"]:.1f}**' in printed
    total = 100 * sum(result['miou'] for result in figures.values())
    assert f'Sum of mIoUs: **{total:.1f}**' in printed


def test_evaluate_takes_a_model_file_with_a_configuration(finished_run, model, tmp_path, capsys):
    folder, _ = finished_run
    assert main(['evaluate', str(model), '--config', str(folder / 'config.yaml'),
                 '--out', str(tmp_path / 'figures.json')]) == 0
    assert json.loads((tmp_path / 'figures.json').read_text()) == json.loads(
        (folder / 'evaluation.json').read_text())


def test_predict_writes_a_mask_and_an_overlay_of_every_image(worlds, model, tmp_path, capsys):
    images, out = worlds / 'indoor' / 'validation' / 'image', tmp_path / 'new' / 'masks'
    assert main(['predict', str(images), '--model', str(model), '--domain', 'indoor',
                 '--out', str(out), '--device', 'cpu']) == 0
    assert f'{VALIDATION} masks and overlays in {out}' in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f'{i:02}_{kind}.png' for i in range(VALIDATION) for kind in ('mask', 'overlay'))
    segmenter = Segmenter.load(model, device='cpu')
    for path in images.iterdir():
        mask = read_label(out / f'{path.stem}_mask.png', INDOOR)
        assert np.array_equal(mask, segmenter(read_image(path), ['indoor'])['indoor'].mask)
        overlay = read_image(out / f'{path.stem}_overlay.png')
        assert overlay.shape[0] > mask.shape[0]
        assert overlay.shape[1] == mask.shape[1]


def test_predict_skips_and_counts_what_it_cannot_read(worlds, finished_run, tmp_path, capsys,
                                                     caplog):
    """A run folder names its model, as everywhere."""
    folder, out = tmp_path / 'images', tmp_path / 'out'
    shutil.copytree(worlds / 'indoor' / 'validation' / 'image', folder)
    (folder / '01.png').write_bytes(b'no image')
    (folder / '99.jpg').write_bytes(b'')
    no_text = [folder / os.fsdecode(name) for name in (b'stra\xdfe.png', b'two\nlines.png')]
    for path in no_text:  # whose masks no list could name
        shutil.copy(folder / '00.png', path)
    command = ['predict', str(folder), '--model', str(finished_run[0]), '--domain', 'indoor',
               '--out', str(out), '--device', 'cpu']
    assert main(command) == 0
    assert capsys.readouterr().out == (
        f'{VALIDATION - 1} masks and overlays in {out}; 4 images cannot be read and are '
        'skipped\n')
    assert f'{folder / "01.png"}: not a readable image' in caplog.text
    for name in (r'stra\xdfe.png', r'two\nlines.png'):
        assert f'{folder / name}: a file name that is not in UTF-8, or of several' in caplog.text
    assert len(list(out.iterdir())) == 2 * (VALIDATION - 1)
    assert main([*command, '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert told['skipped'] == [str(folder / '01.png'), str(folder / '99.jpg'),
                               *map(str, no_text)]
    assert len(told['images']) == VALIDATION - 1


def test_predict_does_not_write_among_the_images(worlds, model, tmp_path, capsys):
    folder = tmp_path / 'images'
    shutil.copytree(worlds / 'indoor' / 'validation' / 'image', folder)
    for out in (folder, folder / '..' / 'images'):
        assert_fails(capsys, ['predict', folder, '--model', model, '--domain', 'indoor', '--out',
                              out], 'the images are here')
    assert len(list(folder.iterdir())) == VALIDATION


def test_predict_of_images_none_of_which_can_be_read_fails(model, tmp_path, capsys):
    (tmp_path / 'a.png').write_bytes(b'')
    assert main(['predict', str(tmp_path), '--model', str(model), '--domain', 'indoor']) == 1
    assert 'none of 1 images can be read' in capsys.readouterr().err


def test_predict_labels_any_image_in_any_label_space(worlds, model, tmp_path):
    """Outdoor images in the classes of indoor, by the nearest label embedding."""
    images = worlds / 'outdoor' / 'validation' / 'image'
    assert main(['predict', str(images), '--model', str(model), '--label-space', 'indoor',
                 '--out', str(tmp_path), '--device', 'cpu']) == 0
    segmenter = Segmenter.load(model, device='cpu')
    for path in images.iterdir():
        expected = segmenter.label_embedding_mask(segmenter.encode(read_image(path)), 'indoor')
        assert np.array_equal(read_label(tmp_path / f'{path.stem}_mask.png', INDOOR), expected)


def test_evaluate_prints_json(finished_run, model, capsys):
    folder, _ = finished_run
    figures = json.loads((folder / 'evaluation.json').read_text())
    for arguments in ([str(folder)], ['--model', str(folder)],
                      ['--model', str(model), '--config', str(folder / 'config.yaml')]):
        assert main(['evaluate', '--json', *arguments]) == 0
        assert json.loads(capsys.readouterr().out) == figures


def test_train_prints_json_and_nothing_else(finished_run, bare_training, capsys):
    """A finished run that is started again measures and reports."""
    folder, _ = finished_run
    copy = folder.parent / 'again'
    shutil.copytree(folder, copy)
    assert main(['train', str(folder / 'config.yaml'), '--run', str(copy), '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert told['run'] == str(copy)
    assert told['evaluation'] == json.loads((folder / 'evaluation.json').read_text())
    assert str(copy / 'model.univseg') in told['files']


def test_evaluate_measures_by_the_papers_protocol(finished_run, tmp_path, capsys):
    """Four images at 64×48, as they are: the same figures."""
    out = tmp_path / 'paper.json'
    assert main(['evaluate', str(finished_run[0]), '--protocol', 'paper', '--out', str(out)]) == 0
    assert json.loads(out.read_text()) == json.loads(
        (finished_run[0] / 'evaluation.json').read_text())


def test_predict_takes_one_image_of_any_size(model, tmp_path):
    write_png(tmp_path / 'photo.png', random_image(77, 131))
    assert main(['predict', str(tmp_path / 'photo.png'), '--model', str(model),
                 '--domain', 'indoor', '--out', str(tmp_path)]) == 0
    assert read_label(tmp_path / 'photo_mask.png', INDOOR).shape == (77, 131)
