"""The commands that add evidence of domains, and those that go by it."""

from contextlib import nullcontext
import json
import shutil
from types import SimpleNamespace

from bag_files import compressed, raw, write_bag
from command_lines import assert_fails
import cv2
import numpy as np
import pytest
from tiny_worlds import COLOURS, configuration
from univseg_core.cli import main
from univseg_core.datasets.frames import extract_frames, ExtractionSettings
from univseg_core.datasets.manifest import read_manifest
from univseg_core.errors import UnivsegError
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.model_file import load_model
from univseg_core.pictures.images import read_image, write_png
from univseg_core.training import run_evidence
import yaml


def test_the_command_says_what_is_wrong(recognising, images, tmp_path, capsys):
    old = recognising.with_name('old.univseg')
    out = ['--out', tmp_path / 'a.univseg']
    one = f'outdoor={images / "outdoor"}'
    assert_fails(capsys, ['recognise', old, *out], 'no images of outdoor, indoor',
                 '--images outdoor=FOLDER', '--config')
    assert_fails(capsys, ['recognise', old, *out, '--images', one], 'no images of indoor')
    assert_fails(capsys, ['recognise', old, *out, '--images', 'outdor=x'], 'outdor',
                 'did you mean outdoor?')
    assert_fails(capsys, ['recognise', old, *out, '--images', 'outdoor'], 'NAME=FOLDER')
    assert_fails(capsys, ['recognise', old, *out, '--images', f'outdoor={tmp_path / "gone"}'],
                 'gone')
    assert_fails(capsys, ['recognise', old, '--out', tmp_path / 'a.onnx'], '.univseg')
    assert_fails(capsys, ['recognise', old, '--out', tmp_path], 'a folder')
    assert not list(tmp_path.iterdir())
    assert_fails(capsys, ['predict', images / 'noise', '--model', old, '--domain', 'auto'],
                 'univseg recognise')


def test_info_tells_of_evidence(recognising, capsys):
    for path, expected in ((recognising, 'images of outdoor, indoor, and of none of these'),
                           (recognising.with_name('old.univseg'), 'nothing')):
        assert main(['info', str(path)]) == 0
        assert expected in ' '.join(capsys.readouterr().out.split())


def test_predict_takes_each_images_own_domain(recognising, images, tmp_path, capsys):
    for name in ('outdoor', 'indoor', 'noise'):
        image = read_image(images / name / '03.png')
        write_png(tmp_path / 'mixed' / f'{name}.png', image)
    arguments = ['predict', str(tmp_path / 'mixed'), '--model', str(recognising),
                 '--out', str(tmp_path / 'out'), '--domain', 'auto']
    assert main([*arguments, '--json']) == 0
    said = json.loads(capsys.readouterr().out)
    mixed = {name: str(tmp_path / 'mixed' / f'{name}.png') for name in (*COLOURS, 'noise')}
    assert said['domains'] == {mixed['outdoor']: 'outdoor', mixed['indoor']: 'indoor'}
    assert sorted(said['images']) == sorted(said['domains'])
    assert said['skipped'] == []
    assert said['unknown'] == {mixed['noise']: pytest.approx(said['unknown'][mixed['noise']])}
    assert said['unknown'][mixed['noise']] > 1
    assert sorted(path.name for path in (tmp_path / 'out').glob('*_mask.png')) == [
        'indoor_mask.png', 'outdoor_mask.png']
    segmenter = Segmenter.load(recognising)
    assert np.array_equal(cv2.imread(str(tmp_path / 'out' / 'indoor_mask.png'), -1), segmenter(
        read_image(mixed['indoor']), ['indoor'])['indoor'].mask)


def test_evaluate_tells_domains_apart_and_from_none_of_these(recognising, worlds, images,
                                                             write_config, tmp_path, capsys):
    config = write_config(configuration(worlds))
    assert main(['evaluate', str(recognising), '--config', str(config), '--unknown',
                 str(images / 'noise'), '--out', str(tmp_path / 'evaluation.json')]) == 0
    text = capsys.readouterr().out
    assert '| outdoor | 4 | 0 | 100.0 | 100.0 |' in text
    assert '| indoor | 0 | 4 | 100.0 | 100.0 |' in text
    found = json.loads((tmp_path / 'evaluation.json').read_text())
    assert found['indoor']['recognition']['taken_for'] == {'outdoor': 0, 'indoor': 4}
    assert found['none of these'][str(images / 'noise')] == {
        'images': 30, 'auroc': 1.0, 'found': 1.0, 'found_at_1_percent': 1.0,
        'found_at_1_percent_over_5': 1.0}
    assert f'| {images / "noise"} | 30 | 1.0000 |' in text
    assert_fails(capsys, ['evaluate', recognising.with_name('old.univseg'), '--config', config,
                          '--unknown', images / 'noise'], 'univseg recognise')
    assert_fails(capsys, ['evaluate', recognising, '--config', config, '--unknown',
                          tmp_path / 'gone'], 'gone')


def test_a_training_ends_with_evidence(images, tmp_path, bare_training, caplog):
    values = configuration(tmp_path)
    for name, domain in values['domains'].items():
        label = np.zeros((48, 64), np.uint8)
        for part, numbers in (('train', range(26)), ('validation', range(28, 30))):
            for i in numbers:
                write_png(tmp_path / name / part / 'label' / f'{i:02}.png', label)
                write_png(tmp_path / name / part / 'image' / f'{i:02}.png',
                          read_image(images / name / f'{i:02}.png'))
        domain['labelled'] = 6  # the other 20 count, too
    values['objective'] = {'alpha': 0, 'beta': 0, 'consistency': 0, 'class_balance': 0}
    values['training'] |= {'steps': 2, 'validate_every': 1, 'checkpoint_every': 2}
    (tmp_path / 'my.yaml').write_text(yaml.safe_dump(values))
    run = tmp_path / 'run'
    assert main(['train', str(tmp_path / 'my.yaml'), '--run', str(run)]) == 0
    assert '100.0 % of 26 images of outdoor' in caplog.text
    for name in ('model.univseg', 'best.univseg'):
        network, _ = load_model(run / name)
        assert network.evidence.names == tuple(network.domains) == ('indoor', 'outdoor')
    found = json.loads((run / 'evaluation.json').read_text())
    assert found['outdoor']['recognition']['images'] == 2
    assert '| images of | indoor | outdoor |' in (run / 'evaluation.md').read_text()

    without = tmp_path / 'without'
    assert main(['train', str(tmp_path / 'my.yaml'), 'training.recognise=false', '--run',
                 str(without)]) == 0
    assert load_model(without / 'model.univseg')[0].evidence is None


@pytest.mark.parametrize(('error', 'is_told'), [
    (MemoryError(), True), (RuntimeError('CUDA out of memory'), True), (RuntimeError('x'), False)])
def test_a_model_is_kept_where_memory_for_the_evidence_runs_out(error, is_told, recognising,
                                                                tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise error
    monkeypatch.setattr(run_evidence, 'make_evidence', fail)
    monkeypatch.setattr(run_evidence, 'deployed', lambda *_: None)
    path = shutil.copy(recognising.with_name('old.univseg'), tmp_path / 'best.univseg')
    context = SimpleNamespace(fabric=SimpleNamespace(device='cpu'),
                              config=SimpleNamespace(training=SimpleNamespace(seed=0)))
    with nullcontext() if is_told else pytest.raises(RuntimeError, match='x'):
        run_evidence.complete_evidence(context, path, {})
    assert load_model(path)[0].evidence is None
    assert ('univseg recognise' in caplog.text) == is_told


def test_a_training_with_few_images_makes_no_evidence(finished_run):
    folder, _ = finished_run
    assert load_model(folder / 'model.univseg')[0].evidence is None
    assert 'recognition' not in (folder / 'evaluation.json').read_text()


def test_frames_stand_in_the_folder_of_what_they_show(recognising, images, tmp_path, capsys):
    shown = [(name, read_image(images / name / f'{i:02}.png'))
             for i in (3, 4) for name in ('outdoor', 'indoor', 'noise')]
    topic = '/camera/image'
    bag = write_bag(tmp_path / 'drive', {
        topic: [raw(number, image) for number, (_, image) in enumerate(shown)]})
    arguments = ['frames', str(bag), '--out', str(tmp_path / 'frames'), '--format', 'png',
                 '--duplicates', 'keep', '--split-by-domain', str(recognising)]
    assert main(arguments) == 0
    rows = read_manifest(tmp_path / 'frames')
    folders = {'outdoor': 'outdoor', 'indoor': 'indoor', 'noise': 'unknown'}
    assert [row.file.split('/')[0] for row in rows] == [folders[name] for name, _ in shown]
    for row, (_, image) in zip(rows, shown, strict=True):
        assert np.array_equal(read_image(tmp_path / 'frames' / row.file), image)
    capsys.readouterr()
    assert main(arguments) == 0
    assert '6 of these images known' in capsys.readouterr().out
    assert len(read_manifest(tmp_path / 'frames')) == 6
    # Another model, or none, would sort them otherwise.
    assert_fails(capsys, arguments[:-2], 'other settings', 'split_by')
    assert_fails(capsys, [*arguments[:-1], recognising.with_name('old.univseg')],
                 'univseg recognise')
    data = cv2.imencode('.jpg', shown[0][1][..., ::-1])[1].tobytes()
    cut = write_bag(tmp_path / 'cut', {f'{topic}/compressed': [
        compressed(0, data), compressed(1, data[:len(data) // 2])]})
    extract_frames([cut], tmp_path / 'of_cut', folder_of=lambda image: 'here', progress=False)
    whole, half = read_manifest(tmp_path / 'of_cut')
    assert (whole.outcome, whole.file.split('/')[0]) == ('kept', 'here')
    assert (half.outcome.split(':')[0], half.file) == ('unreadable', '')


def test_a_frame_that_the_network_does_not_take_is_told_with_its_topic_and_stamp(tmp_path):
    def folder_of(image):
        if image.shape[0] > 48:
            raise UnivsegError('too high')
        return 'here'
    bag = write_bag(tmp_path / 'drive', {'/camera/image': [
        raw(number, np.zeros((rows, 64, 3), np.uint8))
        for number, rows in enumerate((48, 48, 50), 7)]})
    with pytest.raises(UnivsegError, match=r'drive: /camera/image at 100900000005: too high'):
        extract_frames([bag], tmp_path / 'frames', progress=False, folder_of=folder_of,
                       settings=ExtractionSettings(duplicate_bits=None))
