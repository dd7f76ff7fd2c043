"""`univseg export`: a file that is as good as its original, or none and an error."""

import json
from pathlib import Path
import re
import shutil
import sys
from types import ModuleType

from command_lines import assert_fails
import pytest
from tiny_worlds import configuration, random_image, small_network, TRAIN
from torch import nn
from univseg_core.cli import main
from univseg_core.datasets.folders import spread
from univseg_core.exporting import comparison, export
from univseg_core.exporting.images import to_calibrate, to_compare
from univseg_core.exporting.network import encoder_to_onnx, ExportError
from univseg_core.inference import backends
from univseg_core.models.exported_file import load_exported
from univseg_core.models.model_file import load_model
from univseg_core.pictures.images import write_png
from univseg_core.settings.config import load_config
import yaml


@pytest.fixture(autouse=True)
def exported_once(exported, monkeypatch):
    """
    Take the ONNX model that there is already: it is what each export here would come to.

    One size tells whether other sizes are tried; test_backends.py has many.
    """
    monkeypatch.setattr(export, 'TRIED_SIZES', export.TRIED_SIZES[:1])
    monkeypatch.setattr(export, 'encoder_to_onnx', lambda model, size: exported.encoder)


@pytest.fixture
def source(exported, tmp_path):
    """Return a model file in a folder of its own."""
    return shutil.copy(exported.source, tmp_path / 'yard.univseg')


@pytest.fixture
def photos(tmp_path):
    """Return a folder of four images."""
    for i in range(4):
        write_png(tmp_path / 'photos' / f'{i}.png', random_image(24, 32 + i // 3, i))
    return tmp_path / 'photos'


@pytest.fixture
def run(exported, worlds, tmp_path):
    """Return a folder as a finished run leaves it."""
    folder = tmp_path / 'run'
    folder.mkdir()
    shutil.copy(exported.source, folder / 'model.univseg')
    (folder / 'config.yaml').write_text(yaml.safe_dump(configuration(worlds)))
    return folder


def call(*words):
    return main([str(word) for word in words])


def left(folder):
    """Return the names of a folder's files, hidden ones too."""
    return sorted(path.name for path in Path(folder).iterdir())


def test_a_run_is_compared_on_its_validation_images(run, capsys):
    assert call('export', run, '--to', 'onnx', '--images', 3) == 0
    path = run / 'model.onnx'
    model, card = load_exported(path)
    original, its_card = load_model(run / 'model.univseg')
    assert card == its_card
    assert (model.domains, model.spec) == (original.domains, original.spec)
    assert (model.export.target, model.export.precision, model.export.size) == (
        'onnx', 'fp32', None)
    assert [each.split()[0] for each in model.export.compared] == ['onnxruntime', 'openvino']
    for domains in model.export.compared.values():
        assert domains.keys() == {'outdoor', 'indoor'}
        for result in domains.values():
            assert result['images'] == 3
            assert 0.999 <= result['equal_pixels'] <= 1
            before, after = result['miou']
            assert 0 < before < 1
            assert after == pytest.approx(before, abs=1e-3)
    text = capsys.readouterr().out
    assert text.startswith(f'{path}: made of {run / "model.univseg"}')
    assert 'of the pixels of 3 images are equal, mIoU' in text
    # And what was made of which model.
    assert call('info', path) == 0
    text = capsys.readouterr().out
    assert 'a model as an ONNX network, made for onnx, in fp32' in text
    assert call('info', run / 'model.univseg', '--json') == 0
    assert json.loads(capsys.readouterr().out)['sha256'] == model.export.made_of


@pytest.mark.parametrize(('target', 'options', 'name', 'runtimes', 'size'), [
    ('onnx', [], 'yard.onnx', ['onnxruntime', 'openvino'], None),
    ('openvino', ['--size', 'any'], 'yard_openvino.onnx', ['openvino', 'onnxruntime'], None),
    ('tensorrt', ['--size', '40x24'], 'yard_tensorrt.onnx', ['onnxruntime'], (24, 40))])
def test_each_target_is_compared_by_what_runs_it(source, photos, capsys, target, options, name,
                                                 runtimes, size):
    assert call('export', source, '--to', target, '--frames', photos, *options, '--json') == 0
    told = json.loads(capsys.readouterr().out)
    model, _ = load_exported(source.with_name(name))
    assert told['file'] == str(source.with_name(name))
    assert told['target'] == model.export.target == target
    assert model.export.size == size
    assert [each.split()[0] for each in model.export.compared] == runtimes
    for result in (each for domains in model.export.compared.values()
                   for each in domains.values()):
        assert result.keys() == {'images', 'equal_pixels'}
        assert result['images'] == 4
        assert result['equal_pixels'] >= 0.999
    assert told['compared'] == model.export.compared


def test_other_commands_take_the_file_in_the_place_of_a_model(exported, copied, photos, worlds,
                                                              tmp_path, write_config, capsys):
    config = write_config(configuration(worlds))
    mious = []
    for path in (exported.source, copied):
        assert call('evaluate', path, '--config', config, '--json') == 0
        mious.append(list(_mious(json.loads(capsys.readouterr().out))))
    assert len(mious[0]) >= 2
    assert mious[0] == pytest.approx(mious[1], abs=1e-3)
    for command in (['predict', photos, '--model', copied, '--domain', 'outdoor', '--out',
                     tmp_path / 'masks'],
                    ['prelabel', copied, photos, '--domain', 'outdoor', '--out',
                     tmp_path / 'to_correct'],
                    ['rank', copied, photos, '--domain', 'outdoor', '--out', tmp_path / 'ranks']):
        assert call(*command) == 0


def _mious(values):
    """Yield all that plain values say of an mIoU."""
    if isinstance(values, dict):
        if isinstance(values.get('miou'), float):
            yield values['miou']
        for value in values.values():
            yield from _mious(value)


def test_int8_is_made_of_frames_and_measured_in_its_own_precision(
        write_config, worlds, monkeypatch, photos, source, capsys):
    seen = {}

    def quantise(encoder, frames, target):
        seen.update(frames=frames, target=target)
        return encoder

    with_quantise(monkeypatch, quantise)
    monkeypatch.setattr(export, 'FEWEST_FRAMES', 3)
    assert call('export', source, '--to', 'openvino', '--precision', 'int8', '--frames', photos,
                '--calibrate', photos) == 0
    path = source.with_name('yard_openvino_int8.onnx')
    model, _ = load_exported(path)
    assert (model.export.precision, model.export.calibration) == ('int8', {'frames': 4})
    assert seen['target'] == 'openvino'
    # As the network sees them: 64 pixels, the longest side.
    assert [frame.shape for frame in seen['frames']] == [*3 * [(48, 64, 3)], (47, 64, 3)]
    assert call('info', path) == 0
    assert re.search(r'calibrated with +4 images\n', capsys.readouterr().out)
    assert call('evaluate', path, '--config', write_config(configuration(worlds))) == 0


def with_quantise(monkeypatch, quantise):
    """Put a function in the place of the one that makes a network one in int8."""
    module = ModuleType('univseg_core.exporting.quantisation')
    module.quantise = quantise
    monkeypatch.setitem(sys.modules, 'univseg_core.exporting.quantisation', module)


@pytest.mark.parametrize(('unreadable', 'message'), [
    (0, '4 images to calibrate with: expected 5 or more'),
    (1, '4 of 5 images to calibrate with can be read: expected 5 or more')])
def test_too_few_images_to_calibrate_with(source, photos, tmp_path, monkeypatch, capsys,
                                          unreadable, message):
    with_quantise(monkeypatch, lambda *_: pytest.fail('quantised'))
    monkeypatch.setattr(export, 'FEWEST_FRAMES', 5)
    for i in range(unreadable):
        (photos / f'broken{i}.png').write_bytes(b'nothing')
    assert_fails(capsys, ['export', source, '--to', 'onnx', '--precision', 'int8', '--frames',
                          photos / '0.png', '--calibrate', photos, '--quiet'], message)
    assert left(tmp_path) == ['photos', 'yard.univseg']


@pytest.mark.parametrize(('calibrate', 'messages'), [
    ([], ['int8 finds its ranges by images', '--calibrate']),
    (['--calibrate', 'nothing'], ['nothing', 'no images']),
    (['--calibrate', 'photos', 'missing'], ['missing', 'no such image or folder'])])
def test_no_images_to_calibrate_with(source, photos, tmp_path, monkeypatch, capsys, calibrate,
                                     messages):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'nothing').mkdir()
    with_quantise(monkeypatch, lambda *_: pytest.fail('quantised'))
    monkeypatch.setattr(export, 'FEWEST_FRAMES', 5)
    assert_fails(capsys, ['export', source, '--to', 'onnx', '--precision', 'int8', '--frames',
                          photos, *calibrate, '--quiet'], *messages)
    assert left(tmp_path) == ['nothing', 'photos', 'yard.univseg']


def test_calibration_takes_all_domains_evenly_and_in_turn(worlds, write_config):
    config = write_config(configuration(worlds))
    found = [sample.image.parts[-4] for sample in to_calibrate([], str(config), 6)]
    assert found == ['outdoor', 'indoor'] * 3
    assert len({sample.image for sample in to_calibrate([], str(config), 6)}) == 6
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread(range(3), 4) == [0, 1, 2]


def test_an_export_is_compared_on_what_its_run_set_aside(worlds, write_config):
    """Its splits.json says so, whatever would be chosen today; the rest calibrates."""
    values = configuration(worlds)
    del values['domains']['indoor']
    values['domains']['outdoor'] |= {'validation_from_train': 1, 'labelled': None}
    config = write_config(values)
    domains = {'outdoor': load_config(config).domain('outdoor')}
    all_images = {f'{i:02}.png' for i in range(TRAIN)}
    for name in sorted(all_images):
        splits = {'outdoor': {'validation': {'images': [name]}}}
        config.with_name('splits.json').write_text(json.dumps(splits))
        compared = to_compare([], str(config), domains, 9)['outdoor']
        assert [sample.image.name for sample in compared] == [name]
        assert {sample.image.name for sample in to_calibrate([], str(config), 99)} == (
            all_images - {name})


@pytest.mark.parametrize(('options', 'messages'), [
    ([], ['name images for it with --frames', '--config']),
    (['--frames', 'nothing'], ['nothing', 'no images']),
    (['--frames', 'missing'], ['missing']),
    (['--frames', 'broken.png'], ['broken.png']),
    (['--config', 'missing.yaml'], ['no validation images to compare with', 'missing.yaml']),
    (['--frames', 'photos', '--out', 'a.univseg'], ['a.univseg: expected a name that ends in']),
    (['--frames', 'photos', '--out', 'photos.onnx'], ['photos.onnx: a folder; expected the name']),
    (['--frames', 'photos', '--out', 'broken.png/a.onnx'], ['a.onnx: nothing can be written']),
    (['--frames', 'photos', '--to', 'tensorrt'], ['--to tensorrt: an engine is built for one'])])
def test_what_is_asked_for_in_vain(source, photos, tmp_path, monkeypatch, capsys, options,
                                   messages):
    monkeypatch.chdir(tmp_path)
    for name in ('nothing', 'photos.onnx'):
        (tmp_path / name).mkdir()
    (tmp_path / 'broken.png').write_bytes(b'nothing')
    before = left(tmp_path)
    assert_fails(capsys, ['export', source, '--to', 'onnx', '--quiet', *options], *messages)
    assert left(tmp_path) == before


@pytest.mark.parametrize(('size', 'expected'), [
    ('480', 'WIDTHxHEIGHT'), ('0x10', '1 to 8192'), ('9000x10', '1 to 8192'), ('-1x4', 'WIDTHx'),
    ('4x4x4', 'WIDTHx'), ('', 'WIDTHx'), ('999999999999x1', 'WIDTHx'), ('half', 'or any')])
def test_a_size_that_no_image_has(source, capsys, size, expected):
    with pytest.raises(SystemExit) as end:
        call('export', source, '--to', 'onnx', f'--size={size}')
    assert end.value.code == 2
    assert expected in capsys.readouterr().err


def test_what_is_no_model_to_export(exported, photos, tmp_path, capsys):
    for name, *messages in (
            (exported.path, 'exported already; expected the model file that it was made of'),
            (photos, 'not a finished run: it has no model.univseg yet'),
            (photos / '0.png', 'truncated, damaged or not a model file'),
            (tmp_path / 'none.univseg', 'no such model file')):
        assert_fails(capsys, ['export', name, '--to', 'onnx', '--frames', photos, '--quiet',
                              '--out', tmp_path / 'a.onnx'], *messages)
    assert left(tmp_path) == ['photos']


def test_the_model_itself_is_not_overwritten(source, photos, tmp_path, capsys):
    renamed = source.rename(tmp_path / 'yard.onnx')
    before = renamed.read_bytes()
    assert_fails(capsys, ['export', renamed, '--to', 'onnx', '--frames', photos],
                 'yard.onnx: the model itself; expected another --out')
    assert renamed.read_bytes() == before
    assert call('export', renamed, '--to', 'onnx', '--frames', photos, '--out',
                tmp_path / 'new' / 'a.onnx') == 0
    assert left(tmp_path / 'new') == ['a.onnx']


def test_what_cannot_be_written_is_told_before_anything_is_computed(source, photos, tmp_path,
                                                                    monkeypatch, capsys):
    monkeypatch.setattr('os.access', lambda path, mode: False)
    monkeypatch.setattr(export, 'encoder_to_onnx', lambda *_: pytest.fail('computed'))
    assert_fails(capsys, ['export', source, '--to', 'onnx', '--frames', photos],
                 f'yard.onnx: nothing can be written in {tmp_path}')


def other_heads(exported, monkeypatch):
    """Let the heads be others than the original's when it is exported."""
    found = exported.network.as_arrays()
    for head in found.heads.values():
        head.weight[...] = -head.weight
    from univseg_core.models.universal import UniversalSegmenter
    usual, calls = UniversalSegmenter.as_arrays, []

    def changed(self):
        calls.append(1)
        return usual(self) if len(calls) == 1 else found

    monkeypatch.setattr(UniversalSegmenter, 'as_arrays', changed)


def test_what_is_not_as_the_original_is_not_written(exported, source, photos, run, monkeypatch,
                                                    capsys, tmp_path):
    other_heads(exported, monkeypatch)
    old = source.with_name('yard.onnx')
    old.write_bytes(b'an older file')
    assert_fails(capsys, ['export', source, '--to', 'onnx', '--frames', photos, '--quiet'],
                 "% of the pixels of 4 images are the original's, less than 99.9 %: nothing is")
    assert old.read_bytes() == b'an older file'
    assert left(tmp_path) == ['photos', 'run', 'yard.onnx', 'yard.univseg']


def compared(share, mious=None):
    return comparison.Compared(images=5, pixels=1000, equal=round(1000 * share), mious=mious)


@pytest.mark.parametrize(('precision', 'result', 'message'), [
    ('fp32', compared(0.999), ''), ('fp32', compared(0.998), '99.80 % of the pixels of 5 images'),
    ('fp32', compared(0.998, (0.5, 0.6)), 'less than 99.9 %'),
    ('fp16', compared(0.99), ''), ('fp16', compared(0.989), 'less than 99 %'),
    ('int8', compared(0.95), ''), ('int8', compared(0.949), 'less than 95 %'),
    ('int8', compared(0.8, (0.5, 0.4901)), ''), ('int8', compared(0.8, (0.5, 0.55)), ''),
    ('int8', compared(0.99, (0.5, 0.485)), 'falls from 50.0 to 48.5 %, by more than 1 point'),
    ('int8', compared(0.99, (0.5, float('nan'))), 'more images to calibrate with may help')])
def test_how_good_an_export_must_be(precision, result, message):
    if not message:
        export._check({'a': compared(1.0, (0.5, 0.5)), 'd': result}, precision, 'openvino')
        return
    with pytest.raises(ExportError, match=r'^d: ') as error:
        export._check({'a': compared(1.0, (0.5, 0.5)), 'd': result}, precision, 'openvino')
    assert message in str(error.value)
    assert 'nothing is written' in str(error.value)


def test_a_full_disk_leaves_the_old_file_whole(source, photos, full_disk, capsys):
    old = source.with_name('yard.onnx')
    old.write_bytes(b'an older file')
    with full_disk():
        assert_fails(capsys, ['export', source, '--to', 'onnx', '--frames', photos, '--quiet'],
                     'yard.onnx: cannot be written: File too large')
    assert old.read_bytes() == b'an older file'
    assert left(source.parent) == ['photos', 'yard.onnx', 'yard.univseg']


def test_an_interrupt_leaves_nothing(source, photos, monkeypatch):
    def interrupt(*_, **options):
        raise KeyboardInterrupt

    before = left(source.parent)
    for module, name in ((export, 'encoder_to_onnx'), (export, 'compare'),
                         ('univseg_core.models.exported_file', '_field')):
        with monkeypatch.context() as patch:
            if isinstance(module, str):
                patch.setattr(f'{module}.{name}', interrupt)
            else:
                patch.setattr(module, name, interrupt)
            assert call('export', source, '--to', 'onnx', '--frames', photos, '--quiet') == 130
        assert left(source.parent) == before


@pytest.mark.parametrize(('absent', 'messages'), [
    ('onnx', ['exporting needs the packages onnx and onnxscript', 'pip install onnx onnxscript']),
    ('onnxscript', ['exporting needs the packages onnx and onnxscript']),
    ('onnxruntime', ['an export for onnx is compared', 'pip install onnxruntime'])])
def test_a_package_that_is_missing_is_named(source, photos, monkeypatch, capsys, absent,
                                            messages):
    monkeypatch.setitem(sys.modules, absent, None)
    monkeypatch.setattr(export, 'encoder_to_onnx', encoder_to_onnx)
    assert_fails(capsys, ['export', source, '--to', 'onnx', '--frames', photos, '--quiet'],
                 *messages)
    assert left(source.parent) == ['photos', 'yard.univseg']


class Branching(nn.Module):
    """An encoder that goes one way for wide images, and another for others."""

    out_channels, stride = 4, 8

    def __init__(self, is_wide):
        super().__init__()
        self.is_wide = is_wide
        self.wide, self.narrow = nn.Conv2d(3, 4, 8, 8), nn.Conv2d(3, 4, 8, 8)

    def forward(self, x):
        return self.wide(x) if self.is_wide(x.shape[-1], x) else self.narrow(x)


@pytest.mark.parametrize(('is_wide', 'message'), [
    (lambda width, x: width > 100, r'their width is not of 101 to 8192 pixels'),
    (lambda width, x: width > 4000, r'their width is not of 8 to 4000 pixels'),
    (lambda width, x: x.sum() > 0, r'\(.*\)')])
def test_a_network_that_cannot_be_exported_for_any_size_may_be_for_one(is_wide, message):
    model = small_network()
    model.encoder = Branching(is_wide)
    with pytest.raises(ExportError, match='drn_d_22 cannot be exported for images of any size.*'
                       rf'{message}; with --size WIDTHxHEIGHT it may be'):
        encoder_to_onnx(model, None)


def test_a_network_that_branches_on_the_size_can_be_exported_for_one():
    model = small_network()
    model.encoder = Branching(lambda width, x: width > 100)
    assert encoder_to_onnx(model, (16, 24)).startswith(b'\x08')


def test_a_network_that_is_right_for_some_sizes_alone_is_not_written(source, photos, capsys,
                                                                     monkeypatch):
    """As where an exporter has taken the number of parts of one size for that of all."""
    other = small_network(encoder='light', seed=1)
    usual = backends.build_backend

    def build(name, given, device, precision):
        return usual(name, other if name == 'torch' else given, device, precision)

    monkeypatch.setattr(export, 'build_backend', build)
    assert_fails(capsys, ['export', source, '--to', 'onnx', '--frames', photos, '--quiet'],
                 'light cannot be exported for images of any size: its features of one of 65×33')
    assert left(source.parent) == ['photos', 'yard.univseg']
