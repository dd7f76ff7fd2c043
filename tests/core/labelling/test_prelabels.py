"""The commands: masks go out to a person, and come back."""

import json
import shutil

from label_maps import contents, listed
import numpy as np
from PIL import Image
import pytest
from tiny_worlds import OUTDOOR
from univseg_core.annotations.mask_folder import labelmap
from univseg_core.cli import main
from univseg_core.commands.import_text import to_train
from univseg_core.inference.segmenter import Segmenter
from univseg_core.labelling.prelabels import written_formats
from univseg_core.labelling.specks import without_specks
from univseg_core.pictures.images import read_image, read_label, write_png
from univseg_core.pictures.palette_png import decode_palette_png
from univseg_core.settings.config import load_config


def test_prelabel_writes_what_a_person_starts_from(model, frames, tmp_path, capsys):
    out = tmp_path / 'to_correct'
    command = ['prelabel', str(model), str(frames), '--domain', 'outdoor', '--out', str(out),
               '--confidence', '0.4', '--device', 'cpu']
    assert main(command) == 0
    assert '3 frames with masks' in capsys.readouterr().out
    segmenter = Segmenter.load(model, device='cpu')
    unsure = 0
    for frame in listed(frames):
        mask = segmenter(read_image(frame), ['outdoor'], threshold=0.4)['outdoor'].mask
        unsure += (mask == 255).sum()
        np.testing.assert_array_equal(
            read_label(out / 'labels' / f'{frame.stem}.png', OUTDOOR), mask)
        indices, palette = decode_palette_png(
            (out / 'SegmentationClass' / f'{frame.stem}.png').read_bytes())
        np.testing.assert_array_equal(indices, np.where(mask == 255, 0, mask + 1))
        assert palette[:4].tolist() == [[0, 0, 0], *map(list, OUTDOOR.palette)]
        assert (out / 'images' / frame.name).samefile(frame)
    assert 0 < unsure < 3 * 24 * 32
    assert (out / 'classes.txt').read_text() == 'ground\nbox\nball\n'
    assert (out / 'labelmap.txt').read_text() == labelmap(OUTDOOR)
    names = (out / 'ImageSets' / 'Segmentation' / 'default.txt').read_text()
    assert names == 'a\nb.c\nd\n'
    # What a person may have corrected is not written over.
    assert main(command) == 1
    assert 'name a new folder' in capsys.readouterr().err


def test_prelabel_takes_the_ranked_frames_alone(model, frames, tmp_path, capsys):
    ranking = tmp_path / 'rank.csv'
    ranking.write_text('rank,file\n1,elsewhere/d.png\n2,elsewhere/a.png\n')
    command = ['prelabel', str(model), str(frames), '--domain', 'indoor', '--ranked',
               str(ranking), '--out']
    assert main([*command, str(tmp_path / 'out'), '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told['frames'], told['share_with_class'], told['hard_links']) == (['d', 'a'], 1, 2)
    assert [path.name for path in listed(tmp_path / 'out' / 'images')] == ['a.png', 'd.png']
    ranking.write_text('rank,file\n1,d.png\n2,gone.png\n')
    assert main([*command, str(tmp_path / 'other')]) == 1
    assert 'rank.csv: 1 of its 2 frames are not in the folder: gone.png' in capsys.readouterr().err
    assert not (tmp_path / 'other').exists()


def test_each_of_several_formats_has_a_folder_with_the_frames(model, frames, tmp_path, capsys):
    command = ['prelabel', str(model), str(frames), '--domain', 'outdoor', '--device', 'cpu',
               '--confidence', '0.4', '--min-pixels', '20', '--out']
    assert main([*command, str(tmp_path / 'both'), '--format', 'masks, fiftyone', '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told['formats'], told['hard_links']) == (['masks', 'fiftyone'], 3)
    for name in told['formats']:
        out, both = tmp_path / name, tmp_path / 'both' / name
        assert main([*command, str(out), '--format', name]) == 0
        assert contents(both).keys() == contents(out).keys()
        assert all((both / file).read_bytes() == (out / file).read_bytes()
                   for file in contents(out) if (out / file).is_file())
        assert (both / 'images' / 'a.png').samefile(frames / 'a.png')
    segmenter = Segmenter.load(model, device='cpu')
    for frame in listed(frames):
        mask = segmenter(read_image(frame), ['outdoor'], threshold=0.4)['outdoor'].mask
        larger = without_specks(mask, 20)
        assert (larger != mask).any()
        np.testing.assert_array_equal(
            read_label(tmp_path / 'masks' / 'labels' / f'{frame.stem}.png', OUTDOOR), larger)


def test_prelabel_names_the_formats_that_it_writes(capsys):
    command = ['prelabel', 'a.univseg', 'frames', '--domain', 'b', '--out', 'c', '--format']
    with pytest.raises(SystemExit) as stopped:
        main([*command, 'masks,fiftytwo'])
    assert stopped.value.code == 2
    written = written_formats()
    assert (f"'fiftytwo': expected one of {', '.join(written)}; did you mean fiftyone?"
            in capsys.readouterr().err)
    with pytest.raises(SystemExit):
        main(['prelabel', '--help'])
    lines = capsys.readouterr().out.splitlines()
    for name, says in written.items():
        assert any(line.split(maxsplit=1) == [name, says] for line in lines)


def test_masks_go_out_and_come_back_by_index_palette_and_colour(model, frames, tmp_path, capsys):
    out = tmp_path / 'to_correct'
    assert main(['prelabel', str(model), str(frames), '--domain', 'outdoor', '--out', str(out),
                 '--confidence', '0.4']) == 0
    coloured = tmp_path / 'coloured'
    for path in listed(out / 'SegmentationClass'):
        write_png(coloured / path.name, read_image(path))  # its colours
    shutil.copy(out / 'labelmap.txt', coloured)
    back = []
    for labels in (out / 'labels', out / 'SegmentationClass', coloured, out):
        back.append(tmp_path / f'from_{labels.name}')
        labelmap_file = ['--labelmap', str(out / 'labelmap.txt')] if labels != out else []
        assert main(['import-labels', str(labels), '--frames', str(frames), '--model', str(model),
                     '--domain', 'outdoor', *labelmap_file, '--out', str(back[-1])]) == 0
        assert f'train: {{images: {back[-1]}/image, labels: {back[-1]}/label}}' in (
            capsys.readouterr().out)
    first, *others = ({name: data for name, (data, _) in contents(folder).items()}
                      for folder in back)
    assert len(first) == 8
    assert all(other == first for other in others)


def test_import_knows_the_domain_from_a_configuration_too(values, write_config, frames, tmp_path,
                                                          capsys):
    write_png(tmp_path / 'labels' / 'a.png', np.full((24, 32, 3), (9, 9, 9), np.uint8))
    command = ['import-labels', str(tmp_path / 'labels'), '--frames', str(frames), '--config',
               str(write_config(values)), '--out', str(tmp_path / 'out'), '--domain']
    assert main([*command, 'attic']) == 1
    assert "unknown domain 'attic'; there are outdoor, indoor" in capsys.readouterr().err
    assert main([*command, 'indoor']) == 1
    assert 'a.png: colours that stand for no class of indoor' in capsys.readouterr().err
    write_png(tmp_path / 'labels' / 'a.png', np.ones((24, 32), np.uint8))
    assert main([*command, 'indoor', '--void', '9,9,9']) == 0
    assert (tmp_path / 'out' / 'classes.txt').read_text() == 'wall\nlamp\n'
    capsys.readouterr()
    assert main([*command, 'indoor', '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert told.pop('classes') == [
        {'class': name, 'objects': None, 'images': images, 'pixels': pixels, 'share': share}
        for name, images, pixels, share in (('wall', 0, 0, 0), ('lamp', 1, 24 * 32, 1),
                                            ('void', 0, 0, 0))]
    assert told == {
        'folder': str(tmp_path / 'out'), 'added': [], 'replaced': [], 'unchanged': ['a'],
        'empty': [], 'unlabelled': [], 'turned': [], 'format': 'masks', 'forgiven': {},
        'mapped': {}, 'dropped': {}, 'as_prelabelled': [], 'not_read': []}


def test_labels_of_a_labelmap_are_forgiven_and_renamed(values, write_config, frames, tmp_path,
                                                       capsys):
    for name in ('x/SegmentationClass/a.png', 'plain/a.png'):
        write_png(tmp_path / name, np.full((24, 32, 3), (9, 9, 9), np.uint8))
        mask = read_image(tmp_path / name)
        mask[0], mask[1], mask[2:4] = (1, 1, 1), (2, 2, 2), 0
        write_png(tmp_path / name, mask)
    labels = tmp_path / 'x' / 'labelmap.txt'
    labels.write_text('background:0,0,0::\nWALL:9,9,9::\nroof:1,1,1::\nshade:2,2,2::\n')
    command = ['import-labels', '--frames', str(frames), '--config', str(write_config(values)),
               '--domain', 'indoor']
    as_they_are = [str(tmp_path / 'plain'), '--labelmap', str(labels)]
    of_cvat = [str(tmp_path / 'x')]
    for i, source in enumerate((as_they_are, of_cvat)):
        line = [*command, *source, '--out', str(tmp_path / f'out{i}'), '--map', 'roof=void']
        assert main(line) == 1
        assert 'shade' in capsys.readouterr().err
        assert main([*line, '--map', 'shade=lamp', '--json']) == 0
        assert json.loads(capsys.readouterr().out)['forgiven'] == {'WALL': 'wall'}
        label = np.array(Image.open(tmp_path / f'out{i}' / 'label' / 'a.png'))
        assert label[:5, 0].tolist() == [255, 1, 255, 255, 0]
    assert main([*line, '--map', 'shade=lamp', '--background', 'lamp']) == 0
    label = np.array(Image.open(tmp_path / 'out1' / 'label' / 'a.png'))
    assert label[:5, 0].tolist() == [255, 1, 1, 1, 0]
    assert main([*command, str(tmp_path / 'plain'), '--out', str(tmp_path / 'out'), '--map',
                 'roof=void']) == 1
    assert '--map: label maps have numbers and no names' in capsys.readouterr().err


@pytest.mark.parametrize(('pixels', 'question', 'answer', 'expected'), [
    ([0, 1, 2], '--background void', ['--background', 'void'], [255, 0, 1]),
    ([0, 0, 255], '--painted void', ['--painted', 'lamp'], [255, 255, 1]),
    ([0, 0, 255], '--painted void', ['--painted', 'wall'], [255, 255, 0])])
def test_what_a_file_does_not_tell_is_asked(values, write_config, tmp_path, capsys, pixels,
                                            question, answer, expected):
    (tmp_path / 'labels').mkdir()
    picture = Image.fromarray(np.uint8([pixels]))
    if question == '--background void':
        picture = Image.fromarray(np.uint8([pixels]), 'P')
        picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(tmp_path / 'labels' / 'a.png')
    write_png(tmp_path / 'frames' / 'a.png', np.zeros((1, 3, 3), np.uint8))
    command = ['import-labels', str(tmp_path / 'labels'), '--frames', str(tmp_path / 'frames'),
               '--config', str(write_config(values)), '--domain', 'indoor', '--out',
               str(tmp_path / 'out')]
    assert main(command) == 1
    assert question in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
    assert main([*command, answer[0], 'roof']) == 1
    assert 'expected void or one of the classes (wall, lamp)' in capsys.readouterr().err
    assert main([*command, *answer]) == 0
    with Image.open(tmp_path / 'out' / 'label' / 'a.png') as label:
        assert np.array(label).tolist() == [expected]
    # A training would ask about label maps of class 0 and void alone.
    painted = ', painted: void' if 1 not in expected else ''
    out = tmp_path / 'out'
    folder = f'{{images: {out / "image"}, labels: {out / "label"}{painted}}}'
    told = capsys.readouterr().out
    assert f'\ntrain: {folder}\nor, beside labels that there are: train_also: [{folder}]\n' in told


def test_what_a_configuration_has_yet_to_say_is_told(values, write_config, tmp_path):
    values['domains']['outdoor']['labelled'] = 2
    section = load_config(write_config(values)).domains['outdoor']
    new, old = tmp_path / 'new', section.train.images.parent
    folder = f'{{images: {new}/image, labels: {new}/label}}'
    taken = 'domains.outdoor.labelled: 2 takes that many of all labelled images'
    train, also, labelled = to_train(new, 'outdoor', section).splitlines()
    assert train == f'train: {folder}' and labelled.startswith(taken)
    assert also == f'or, beside labels that there are: train_also: [{folder}]'
    assert to_train(old, 'outdoor', section).splitlines()[1].startswith(taken)  # is its train
    section = section.model_copy(update={'labelled': None})
    assert to_train(new, 'outdoor', section).splitlines() == [train, also]


@pytest.mark.parametrize('options', [['--void', '1,2'], ['--void', '1,2,256'],
                                     ['--palette', 'both'], ['--model', 'x']])
def test_options_that_cannot_be_show_the_usage(capsys, options):
    with pytest.raises(SystemExit) as stopped:
        main(['import-labels', 'a', '--frames', 'b', '--config', 'c', '--domain', 'd', '--out',
              'e', *options])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith('usage: univseg import-labels')
