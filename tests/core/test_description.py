"""`univseg info`: what is told of models, run folders and their parts."""

import hashlib
import json
import shutil

from lightning_fabric.plugins import Precision
import pytest
from safetensors.torch import save_file
from tiny_worlds import INDOOR, OUTDOOR, small_network, TRAINED
import torch
from univseg_core.cli import main
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.reporting.description import describe, DescriptionError
from univseg_core.reporting.description_text import as_text
from univseg_core.settings.learning import TrainingSection
from univseg_core.training.checkpoint import save_checkpoint
from univseg_core.training.optimisation import new_optimizer, new_scheduler


@pytest.fixture
def run(finished_run, tmp_path):
    """Return a copy of a finished run's folder, to be changed."""
    return shutil.copytree(finished_run[0], tmp_path / 'run')


def forget(run, *names):
    for name in names:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def keep_steps(run, last):
    """Make a run look as it did when step `last` was logged."""
    for name in ('log.csv', 'validation.csv'):
        head, *rows = (run / name).read_text().splitlines()
        kept = [row for row in rows if int(row.split(',')[0]) <= last]
        (run / name).write_text('\n'.join([head, *kept]) + '\n')


def test_a_model_tells_all_about_itself(finished_run):
    folder, config = finished_run
    path = folder / 'model.univseg'
    told = describe(path)
    assert told['kind'] == 'model'
    assert told['sha256'] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told['bytes'] == path.stat().st_size
    assert (told['encoder'], told['width'], told['embedding_dim']) == tuple(TRAINED.values())
    assert told['parameters'] == sum(p.numel() for p in small_network(**TRAINED).parameters())
    assert told['image_size'] == 64
    assert told['settings'] == config.model_dump(mode='json')
    evaluation = json.loads((folder / 'evaluation.json').read_text())
    splits = (folder / 'splits.json').read_text()
    for domain in (OUTDOOR, INDOOR):
        of_domain = told['domains'][domain.name]
        assert of_domain['classes'] == list(domain.classes)
        assert of_domain['miou'] == evaluation[domain.name]['miou']
        assert of_domain['label_embeddings_per_class'] == 1
        assert of_domain['labelled_images_hash'] in splits


def test_a_models_text_has_what_a_person_asks(finished_run):
    path = finished_run[0] / 'model.univseg'
    told, text = describe(path), as_text(describe(path))
    for part in (str(path), 'light, width 0.125', f'{told["parameters"]:,}', told['sha256'],
                 'scaled to 64 pixels', '3 classes', 'ground, box, ball', '2 classes', '1 a class',
                 told['domains']['indoor']['labelled_images_hash'], 'steps 30',
                 f'{100 * told["domains"]["indoor"]["miou"]:.1f} %'):
        assert part in text
    assert max(map(len, text.splitlines())) <= max(99, len(str(path)) + 30)


def test_a_model_without_label_embeddings_or_a_history(tmp_path):
    path = tmp_path / 'bare.univseg'
    save_model(path, small_network(), ModelCard())
    told = describe(path)
    assert told['domains']['indoor']['label_embeddings_per_class'] == 0
    assert told['domains']['indoor']['miou'] is None
    text = as_text(told)
    assert 'as they come' in text
    assert 'not measured' in text
    assert 'settings' not in text


def test_several_label_embeddings_a_class_are_counted(tmp_path):
    network = small_network()
    vectors = torch.eye(8)[:6]
    vectors[2:4] = 0  # those of the second class
    network.set_label_embeddings('outdoor', vectors)
    save_model(tmp_path / 'm.univseg', network, ModelCard())
    told = describe(tmp_path / 'm.univseg')['domains']['outdoor']
    assert told['label_embeddings_per_class'] == 2
    assert told['classes_without_label_embedding'] == ['box']
    assert '2 a class, but for box' in as_text(describe(tmp_path / 'm.univseg'))


def test_a_finished_run(finished_run):
    folder, config = finished_run
    told = describe(folder)
    assert told['kind'] == 'run'
    assert told['progress'] == {'finished': True, 'step': 30, 'steps': 30, 'checkpoint_step': 30}
    assert told['seconds_left'] is None
    assert told['preparations'] == {'label_embeddings': 'there'}
    assert told['settings'] == config.model_dump(mode='json')
    assert told['last']['step'] == 30
    assert told['seconds_per_step'] > 0
    assert [row['step'] for row in told['validations']] == [10, 20, 30]
    best = max(told['validations'], key=lambda row: row['sum'])
    assert told['best_step'] == best['step']
    assert best['sum'] == pytest.approx(sum(best['miou'].values()))
    there = {path.name for path in folder.iterdir()}
    assert set(told['files']) == there
    assert told['files']['log.csv']['bytes'] == (folder / 'log.csv').stat().st_size
    text = as_text(told)
    assert 'a training, finished, 30 steps' in text
    assert text.count('← best') == 1
    assert 'time left' not in text


def test_a_large_model_that_teaches_is_told_of_and_none_is_not(finished_run):
    told = describe(finished_run[0])
    assert 'distillation' not in as_text(told)
    told['settings']['objective']['distillation']['teacher'] = '/large.univseg'
    text = ' '.join(as_text(told).split())
    assert 'distillation (teacher /large.univseg, weight 1, temperature 1, labelled false)' in text


def test_a_run_in_progress_tells_the_time_left(run):
    forget(run, 'model.univseg')
    keep_steps(run, 20)
    told = describe(run)
    assert not told['progress']['finished']
    assert told['progress']['checkpoint_step'] == 30
    forget(run, 'checkpoint.safetensors')
    log = (run / 'log.csv').read_text().splitlines()
    log = [log[0], *(','.join([*line.split(',')[:-1], '7.0']) for line in log[1:])]
    (run / 'log.csv').write_text('\n'.join(log) + '\n')
    told = describe(run)
    assert told['progress'] == {'finished': False, 'step': 20, 'steps': 30,
                                'checkpoint_step': None}
    assert told['seconds_per_step'] == 7
    assert told['seconds_left'] == 70
    text = as_text(told)
    assert 'step 20 of 30 (67 %)' in text
    assert '0:01:10' in text


def test_speed_is_that_of_one_stretch(run):
    """Rows are of as many steps: 16 crops in 1 s and 24 in 3 s are 10 images/s, not 12."""
    rows = [(step, 1000, 0.001) for step in range(1, 6)]  # which is longer ago
    rows += [(step, 16, 1) if step % 2 else (step, 8, 3) for step in range(6, 16)]
    (run / 'log.csv').write_text('\n'.join(
        ['step,images_per_second,seconds_per_step',
         *(f'{10 * step},{images},{seconds}' for step, images, seconds in rows), '']))
    told = describe(run)
    assert told['seconds_per_step'] == pytest.approx(2)
    assert told['images_per_second'] == pytest.approx(10)
    text = as_text(told)
    assert '2 s a step, 10 images/s' in text
    assert 'images_per_second' not in text
    assert 'seconds_per_step' not in text


def test_a_run_that_prepares_its_label_embeddings(run):
    forget(run, 'model.univseg', 'best.univseg', 'checkpoint.safetensors', 'log.csv',
           'validation.csv', 'label_embeddings.safetensors', 'supervised/indoor')
    told = describe(run)
    assert told['progress']['step'] == 0
    assert told['last'] == {}
    networks = told['preparations']['supervised_only_networks']
    assert told['preparations']['label_embeddings'] == 'not made yet'
    assert networks['outdoor'] == {'finished': True, 'step': 3, 'steps': 3, 'checkpoint_step': 3}
    assert not networks['indoor']['finished']
    text = as_text(told)
    assert 'step 0 of 30' in text
    assert 'outdoor alone' in text
    assert 'step 0 of 3 (0 %)' in text


def test_a_run_without_unsupervised_terms_needs_none(run):
    path = run / 'config.yaml'
    text = path.read_text().replace('alpha: 0.1', 'alpha: 0.0').replace('beta: 0.1', 'beta: 0.0')
    path.write_text(text)
    assert describe(run)['preparations'] == {'label_embeddings': 'not needed'}


def test_a_network_of_one_domain_alone(finished_run, monkeypatch):
    folder = finished_run[0] / 'supervised' / 'indoor'
    told = describe(folder)
    assert told['supervised_only']
    assert told['progress'] == {'finished': True, 'step': 3, 'steps': 3, 'checkpoint_step': 3}
    assert list(told['settings']['domains']) == ['indoor']
    assert told['preparations'] == {}
    assert [list(row['miou']) for row in told['validations']] == [['indoor']]
    assert 'a network of one domain alone, finished' in as_text(told)
    monkeypatch.chdir(folder)
    assert main(['info', '.']) == 0


def test_a_runs_data_may_be_gone(run):
    path = run / 'config.yaml'
    path.write_text(path.read_text().replace('/train/image', '/gone'))
    assert describe(run)['progress']['finished']


def test_a_checkpoint(finished_run):
    path = finished_run[0] / 'checkpoint.safetensors'
    told = describe(path)
    assert (told['kind'], told['step']) == ('checkpoint', 30)
    assert sorted(told['domains']) == ['indoor', 'outdoor']
    assert told['values'] == sum(v.numel() for v in small_network(**TRAINED).state_dict().values())
    assert 'step       30 of 30' in as_text(told)


@pytest.mark.parametrize('schedule', ['one_cycle', 'polynomial'])
def test_the_steps_of_a_checkpoint_by_either_schedule(tmp_path, schedule):
    settings, network = TrainingSection(schedule=schedule), small_network()
    optimizer = new_optimizer(settings, network)
    path = tmp_path / 'checkpoint.safetensors'
    save_checkpoint(path, 0, network, optimizer, new_scheduler(settings, optimizer, 7),
                    Precision())
    assert describe(path)['steps'] == 7


def test_label_embeddings(finished_run):
    told = describe(finished_run[0] / 'label_embeddings.safetensors')
    assert told['kind'] == 'label embeddings'
    assert told['domains'] == {'outdoor': {'rows': 3, 'dimensions': 8},
                               'indoor': {'rows': 2, 'dimensions': 8}}
    assert '3 of 8 dimensions' in as_text(told)


@pytest.mark.parametrize(('name', 'message'), [
    ('none', 'no such file or folder'), ('empty', 'not a run folder'),
    ('text.univseg', 'expected a model file'), ('cut.univseg', 'expected a model file'),
    ('other.safetensors', 'not one that univseg wrote'),
    ('state.safetensors', 'damaged: its description')])
def test_what_is_none_of_these_is_refused(finished_run, tmp_path, capsys, name, message):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text.univseg').write_text('no model')
    (tmp_path / 'cut.univseg').write_bytes((finished_run[0] / 'model.univseg').read_bytes()[:999])
    save_file({'a': torch.zeros(3)}, tmp_path / 'other.safetensors')
    save_file({'a': torch.zeros(3)}, tmp_path / 'state.safetensors', {'checkpoint': '{}'})
    with pytest.raises(DescriptionError, match=message):
        describe(tmp_path / name)
    assert main(['info', str(tmp_path / name)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'univseg info: {tmp_path / name}: ')


@pytest.mark.parametrize('text', ['[1]', 'a: 1', 'a: ['])
def test_a_damaged_configuration_is_named(tmp_path, text):
    (tmp_path / 'config.yaml').write_text(text)
    with pytest.raises(DescriptionError, match=r'config\.yaml'):
        describe(tmp_path)


@pytest.mark.parametrize('name', ['', 'model.univseg', 'checkpoint.safetensors',
                                  'supervised/outdoor'])
def test_json_is_for_machines(finished_run, capsys, name):
    path = finished_run[0] / name
    assert main(['info', '--json', str(path)]) == 0
    assert json.loads(capsys.readouterr().out) == describe(path)
    json.dumps(describe(path), allow_nan=False)
