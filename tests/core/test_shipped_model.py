"""The model that ships: what it is, how good it is, and that its name is one everywhere."""

import json
import logging
from pathlib import Path
import re

import numpy as np
import pytest
from univseg_core.cli import main, parser
from univseg_core.commands import benchmarking
from univseg_core.commands.options import model_file
from univseg_core.demo import make_model
from univseg_core.demo.scenes.worlds import render_scene, WORLDS, write_worlds
from univseg_core.files import sha256_of
from univseg_core.inference import model_names
from univseg_core.inference.model_names import SHIPPED
from univseg_core.inference.segmenter import load_network, Segmenter
from univseg_core.measuring.evaluation import measure
from univseg_core.models.exported_file import Export
from univseg_core.settings.config import load_config

FILES = {'torch': SHIPPED / 'demo.univseg', 'onnxruntime': SHIPPED / 'demo.onnx',
         'openvino': SHIPPED / 'demo.onnx'}

FRESH = 700_000_000
"""The seed of a scene that neither the model nor `univseg scenes` has seen."""


@pytest.fixture(scope='module')
def scenes():
    """Return (image, label) of a few scenes that are drawn now, by world."""
    return {world: [render_scene(world, FRESH + i) for i in range(6)] for world in WORLDS}


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    """Return a folder of small worlds, not to be changed."""
    folder = tmp_path_factory.mktemp('drawn') / 'worlds'
    write_worlds(folder, train=3, validation=2, labelled=2, progress=False, seed=7)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch, drawn):
    """Be in an empty folder, where the data of train/scenes.yaml is known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('UNIVSEG_DATA', str(drawn))
    return tmp_path


def test_its_two_files_are_one_model_of_the_worlds_in_less_than_a_megabyte():
    # A choice of backend leaves its times beside a model, here, too; they are not shipped.
    files = sorted(path for path in SHIPPED.iterdir() if not path.name.endswith('.speed.json'))
    assert files == sorted({*FILES.values()})
    assert sum(file.stat().st_size for file in files) < 1e6
    (network, card), (exported, its_card) = map(load_network, reversed(files))
    assert card == its_card
    assert exported.export.made_of == sha256_of(FILES['torch'])
    assert network.domains == exported.domains == WORLDS
    assert all(card.miou[world] > .5 for world in WORLDS)


def test_its_card_names_its_making_and_no_machine():
    training = load_network(FILES['torch'])[1].training
    assert training['made_by'] == f'python -m {make_model.__name__}'
    for setting in make_model.SETTINGS:
        key, _, value = setting.partition('=')
        section, _, key = key.partition('.')
        assert str(training['config'][section][key]) == value
    for file in set(FILES.values()):
        assert not re.search(rb'/(tmp|home|work|usr|opt|root)/|\.py"', file.read_bytes())
    assert '"/' not in json.dumps(training)


@pytest.mark.parametrize('backend', FILES)
def test_it_knows_fresh_scenes_and_their_worlds(scenes, backend):
    segmenter = Segmenter.load(FILES[backend], backend=backend, device='cpu', precision='auto')
    for world, pictures in scenes.items():
        pairs = []
        for image, label in pictures:
            encoded = segmenter.encode(image)
            assert segmenter.recognise(encoded).domain == world
            pairs.append((segmenter.head_mask(encoded, world), label))
        assert measure(WORLDS[world], pairs).miou > .45
    grey = segmenter.recognise(segmenter.encode(np.full((180, 240, 3), 127, np.uint8)))
    assert not grey.is_familiar


@pytest.mark.parametrize(('backend', 'with_torch', 'ending'), [
    ('auto', True, 'univseg'), ('auto', False, 'onnx'), ('torch', False, 'univseg'),
    ('openvino', True, 'onnx'), ('onnxruntime', True, 'onnx'), ('torsch', True, 'univseg')])
def test_its_name_is_the_file_that_can_run(here, monkeypatch, caplog, backend, with_torch, ending):
    monkeypatch.setattr(model_names, 'installed', lambda _: ['torch'] if with_torch else [])
    assert model_file(Path('demo'), backend) == SHIPPED / f'demo.{ending}'
    assert not caplog.records


@pytest.mark.parametrize('make', [Path.mkdir, Path.touch])
def test_something_of_that_name_is_meant_by_its_whole_path(here, caplog, make):
    make(here / 'demo')
    with caplog.at_level(logging.WARNING):
        assert model_file(Path('demo')) == FILES['torch']
    assert [each.getMessage() for each in caplog.records] == [
        f'demo is the model that ships with univseg; where {here}/demo is meant, its whole path '
        'says so']
    if (here / 'demo').is_dir():
        (here / 'demo' / 'model.univseg').touch()
        assert model_file(here / 'demo') == here / 'demo' / 'model.univseg'
    else:
        assert model_file(here / 'demo') == here / 'demo'


IMAGES, LABELS = '{worlds}/outdoor/validation/image', '{worlds}/outdoor/validation/label'


@pytest.mark.parametrize(('command', 'made'), [
    ('info demo', ''), ('info --model demo', ''),
    (f'predict {IMAGES} --model demo --domain auto', 'predictions/000001_overlay.png'),
    (f'rank demo {IMAGES} --domain outdoor', 'ranking/rank.csv'),
    (f'prelabel demo {IMAGES} --domain outdoor --out given', 'given/labels/000001.png'),
    (f'labels check demo outdoor --images {IMAGES} --labels {LABELS}', ''),
    ('evaluate demo --config train/scenes.yaml --out found.json', 'found.json'),
    (f'import-labels {LABELS} --frames {IMAGES} --model demo --domain outdoor --out labelled',
     'labelled/classes.txt'),
    (f'frames {IMAGES} --out frames --split-by-domain demo', 'frames/outdoor'),
])
def test_every_command_takes_its_name(here, drawn, capsys, command, made):
    assert main(command.format(worlds=drawn).split()) == 0, capsys.readouterr().err
    assert (here / made).exists()


def test_what_is_exported_of_it_lies_here(here, drawn, monkeypatch):
    seen = []
    monkeypatch.setattr('univseg_core.exporting.export.export_model',
                        lambda *given, **_: seen.append(given[2:4]) or Export())
    assert main(['export', 'demo', '--to', 'onnx', '--frames', IMAGES.format(worlds=drawn)]) == 0
    assert seen == [(FILES['torch'], Path('demo.onnx'))]


def test_recognise_and_benchmark_take_it(here, capsys):
    assert main(['recognise', 'demo', '--out', 'new.onnx']) == 1
    assert f'as {FILES["torch"]} does' in capsys.readouterr().err
    options = parser().parse_args(['benchmark', 'demo'])
    assert list(benchmarking._files(options, here)) == [(FILES['torch'], 'demo')]


def test_a_run_goes_on_from_it(here):
    config = load_config('train/scenes.yaml', ['model.start=demo', 'label_embeddings.networks='
                                               '{outdoor: demo, indoor: demo}'])
    assert config.model.start == FILES['torch']
    assert set(config.label_embeddings.networks.values()) == {FILES['torch']}
