"""Label maps beside a list of names, in the layouts of the tools that write them."""

import numpy as np
from PIL import Image
import pytest
from reading import classes_of, codes, FIXTURES
from univseg_core.annotations.formats import FORMATS
from univseg_core.annotations.regions import AnnotationError
from univseg_core.labelling.import_sources import whole_of
from univseg_core.pictures.images import write_png
from univseg_core.pictures.palette_png import write_palette_png

CVAT = '# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:9,8,7::\ntall tree:0,200,0::\n'
ROAD, TREE, BLACK = (9, 8, 7), (0, 200, 0), (0, 0, 0)

ADE = ('Idx\tRatio\tTrain\tVal\tName\n1\t0.16\t11664\t1172\twall\n'
       '2\t0.12\t6046\t612\tbuilding, edifice\n3\t0.1\t1\t1\tscreen, CRT\n'
       '4\t0.1\t1\t1\tscreen, silver\n')


def write(root, lists, masks):
    for name, text in lists.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name, values in masks.items():
        write_png(root / name, np.uint8(values))
    return root


def labels_of(image):
    """Return the label of each pixel."""
    found = np.full(image.size, '', object)
    for region in image.regions:
        mask = region.shape.mask(*image.size)
        assert mask.any()
        assert (found[mask] == '').all()
        found[mask] = region.label
    return found.tolist()


LAYOUTS = {
    'cvat-masks': ({'labelmap.txt': CVAT},
                   {'SegmentationClass/a.b.png': [[ROAD, TREE, BLACK, ROAD]]},
                   'a.b', ['road', 'tall tree', 'background', 'road']),
    'voc': ({'class_names.txt': '_background_\nroad\ntall tree\n'},
            {'SegmentationClass/a.png': [[1, 2, 0, 255]]},
            'a', ['road', 'tall tree', '_background_', 'index 255']),
    'ade': ({'objectInfo150.txt': ADE},
            {'annotations/training/ADE_train_00000001.png': [[2, 1, 0, 3]]},
            'ADE_train_00000001', ['building', 'wall', '', 'screen, CRT']),
    'roboflow-masks': ({'_classes.csv': 'Pixel Value, Class\n0, background\n1, road\n'},
                       {'a_jpg.rf.0d1e_mask.png': [[1, 0]]},
                       'a_jpg.rf.0d1e', ['road', 'background']),
    'fiftyone': ({'mask_targets.json': '{"1": "road", "2": "tall tree"}'},
                 {'labels/a.png': [[2, 0, 1, 255]]},
                 'a', ['tall tree', '', 'road', 'index 255']),
}


@pytest.mark.parametrize('name', ['cvat-masks', 'voc', 'ade', 'fiftyone'])
def test_a_folder_of_label_maps_alone_is_a_part_of_the_layout(tmp_path, name):
    lists, masks, *_ = LAYOUTS[name]
    write(tmp_path, lists, masks)
    folder = (tmp_path / next(iter(masks))).parent
    (folder / 'below').mkdir()
    assert whole_of(folder) == whole_of(folder / 'below') == (tmp_path, name)
    assert whole_of(tmp_path) is None
    (tmp_path / next(iter(lists))).unlink()
    assert whole_of(folder) is None


@pytest.mark.parametrize('name', LAYOUTS)
def test_a_layout_is_recognised_and_gives_each_pixel_its_label(tmp_path, name):
    lists, masks, stem, expected = LAYOUTS[name]
    root = write(tmp_path, lists, masks)
    (image,) = FORMATS[name].read(root)
    assert (image.image, labels_of(image)) == (stem, [expected])
    assert image.source == root / next(iter(masks))
    assert {*expected} & {'background', '_background_', 'index 255'} <= image.void
    assert not image.void & {'road', 'tall tree', 'wall'}
    of_masks = [other for other in FORMATS if other in LAYOUTS]
    assert [other for other in of_masks if FORMATS[other].recognises(root)] == [name]
    assert not FORMATS[name].recognises(root / next(iter(lists)))


def test_a_palette_of_cvat_counts_by_its_colours(tmp_path):
    write(tmp_path, {'labelmap.txt': CVAT}, {'SegmentationClass/a.png': [[0]]})
    write_palette_png(tmp_path / 'SegmentationClass' / 'a.png', np.uint8([[5, 0, 1]]),
                      [TREE, BLACK, *[ROAD] * 254])
    (image,) = FORMATS['cvat-masks'].read(tmp_path)
    assert labels_of(image) == [['road', 'tall tree', 'background']]


@pytest.mark.parametrize(('name', 'folder', 'truth', 'labels'), [
    ('cvat-masks', 'datumaro/cvat-masks', {'first': 'first.png', 'yard/second': 'yard-second.png'},
     ['road', 'tree', 'car']),
    ('voc', 'datumaro/voc', {'2007_000032': '2007_000032.png', '2008_000015': '2008_000015.png'},
     ['bus', 'pottedplant', 'car']),
    ('roboflow-masks', 'roboflow', {'0': 'classes/0.png', '1': 'classes/1.png'},
     ['background', 'road', 'traffic light']),
    ('ade', 'ade', {name: f'classes/{name}.png' for name in (
        'ADE_train_00000001', 'ADE_val_00000001')},
     ['wall', 'building', 'sky', *[f'none {i}' for i in range(3, 149)], 'flag']),
    ('ade-full', 'ade_full', {name: f'classes/{name}.png' for name in (
        'ADE_train_00000002', 'ADE_val_00000003')}, ['traffic light', 'wall', 'sky']),
    ('fiftyone', 'fiftyone', {'yard_1': 'classes.png'}, ['road', 'car']),
])
def test_what_tools_libraries_write_is_read_as_they_read_it(name, folder, truth, labels):
    void = {'background', 'index 255'} - {*labels}
    index_of = {label: i for i, label in enumerate(labels)} | dict.fromkeys(void, 255)
    images = {image.image: image for image in FORMATS[name].read(FIXTURES / folder)}
    assert images.keys() == truth.keys()
    for image, file in truth.items():
        expected = codes(f'{folder}/{file}')
        assert len(np.unique(expected)) > 1
        np.testing.assert_array_equal(classes_of(images[image], index_of), expected)


def test_colours_of_fiftyone_are_named_but_black(tmp_path):
    write(tmp_path, {'mask_targets.json': '{"#090807": "road", "#00C800": "tree"}'},
          {'labels/a.png': [[TREE, BLACK, ROAD]], 'labels/b.png': [[ROAD, (9, 8, 6), BLACK]]})
    images = iter(FORMATS['fiftyone'].read(tmp_path))
    assert labels_of(next(images)) == [['tree', '', 'road']]
    with pytest.raises(AnnotationError, match=r'b\.png: colours that mask_targets\.json has not: '
                       r'\(9, 8, 6\) in 1 pixels$'):
        next(images)
    write(tmp_path, {'mask_targets.json': '{"#000000": "sky", "#00c800": "tree"}'},
          {'labels/a.png': [[TREE, BLACK]]})
    assert labels_of(next(iter(FORMATS['fiftyone'].read(tmp_path)))) == [['tree', 'sky']]


def test_the_images_of_pascal_voc_have_its_classes(tmp_path):
    folder = tmp_path / 'SegmentationClass'
    write_png(folder / '2007_000032.png', np.uint8([[1, 15, 0, 255]]))
    (image,) = FORMATS['voc'].read(tmp_path)
    assert labels_of(image) == [['aeroplane', 'person', 'background', 'index 255']]
    write_png(folder / 'mine.png', np.uint8([[1]]))
    assert not FORMATS['voc'].recognises(tmp_path)
    with pytest.raises(AnnotationError, match=r'expected SegmentationClass/ with class_names\.t'):
        FORMATS['voc'].read(tmp_path)


def test_names_alone_do_not_make_a_pascal_voc(tmp_path):
    mask = tmp_path / 'SegmentationClass' / '2024_060112.png'
    write_png(mask, np.uint8([[1]]))
    assert not FORMATS['voc'].recognises(tmp_path)
    (tmp_path / 'JPEGImages').mkdir()
    (tmp_path / 'ImageSets').mkdir()
    assert FORMATS['voc'].recognises(tmp_path)
    (tmp_path / 'ImageSets').rmdir()
    palette = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128),
               (0, 128, 128), (128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0),
               (192, 128, 0), (64, 0, 128), (192, 0, 128), (64, 128, 128), (192, 128, 128),
               (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128)]
    for colours, is_voc in ((palette, True), ([*palette[:20], (1, 1, 1)], False)):
        write_palette_png(mask, np.uint8([[1]]), colours + [(0, 0, 0)] * 235)
        assert FORMATS['voc'].recognises(tmp_path) == is_voc


def test_what_no_list_names_is_no_class_of_a_domain(tmp_path):
    lists, masks, *_ = LAYOUTS['fiftyone']
    lists = {'mask_targets.json': '{"1": "background", "2": "void"}'}
    (image,) = FORMATS['fiftyone'].read(write(tmp_path, lists, masks))
    assert labels_of(image) == [['void', '', 'background', 'index 255']]
    assert image.void == {'background', 'void', 'index 255'}


@pytest.mark.parametrize('name', ['cvat-masks', 'voc', 'fiftyone'])
def test_label_maps_lie_in_the_folders_of_their_images(tmp_path, name):
    lists, masks, stem, _ = LAYOUTS[name]
    [(path, values)] = masks.items()
    folder, _, file = path.partition('/')
    root = write(tmp_path, lists, {path: values, f'{folder}/left/{file}': values,
                                   f'{folder}/.thumbs/{file}': values})
    assert [image.image for image in FORMATS[name].read(root)] == [stem, f'left/{stem}']


def test_an_export_of_roboflow_is_read_by_its_parts(tmp_path):
    lists, masks, _, expected = LAYOUTS['roboflow-masks']
    [(file, values)] = masks.items()
    write(tmp_path / 'train', lists, masks)
    write(tmp_path / 'valid', {'_classes.csv': 'Pixel Value, Class\n0, road\n1, background\n'},
          {file.replace('a_jpg', 'b_jpg'): values})
    (tmp_path / 'README.txt').write_text('x')
    images = [*FORMATS['roboflow-masks'].read(tmp_path)]
    assert [(image.also, *labels_of(image)) for image in images] == [
        (('a',), expected), (('b',), expected[::-1])]
    assert FORMATS['roboflow-masks'].recognises(tmp_path)
    (tmp_path / 'valid' / '_classes.csv').write_text('Pixel Value, Class\nx, road\n')
    with pytest.raises(AnnotationError, match=r'valid/_classes\.csv: expected lines of a pixel'):
        [*FORMATS['roboflow-masks'].read(tmp_path)]


def test_an_image_is_known_by_its_name_before_roboflow(tmp_path):
    lists, masks, *_ = LAYOUTS['roboflow-masks']
    (image,) = FORMATS['roboflow-masks'].read(write(tmp_path, lists, masks))
    assert image.also == ('a',)


def test_colours_and_indices_without_a_name_are_told_and_the_rest_is_read(tmp_path):
    write(tmp_path, {'labelmap.txt': CVAT}, {
        'SegmentationClass/a.png': [[(1, 2, 3), ROAD, (1, 2, 3), (4, 4, 4)]],
        'SegmentationClass/b.png': [[ROAD]]})
    images = iter(FORMATS['cvat-masks'].read(tmp_path))
    with pytest.raises(AnnotationError, match=r'a\.png: colours that labelmap\.txt has not: '
                       r'\(1, 2, 3\) in 2 pixels, \(4, 4, 4\) in 1 pixels$'):
        next(images)
    assert next(images).image == 'b'
    (tmp_path / 'SegmentationClass' / 'a.png').write_bytes(b'')
    with pytest.raises(AnnotationError, match=r'a\.png: the file is empty'):
        next(iter(FORMATS['cvat-masks'].read(tmp_path)))
    write(tmp_path / 'x', {'class_names.txt': '_background_\nroad\n'},
          {'SegmentationClass/a.png': [[1, 7]]})
    with pytest.raises(AnnotationError, match=r'a\.png: indices that class_names\.txt has not: '
                       '7 in 1 pixels; it has 0, 1$'):
        next(iter(FORMATS['voc'].read(tmp_path / 'x')))


@pytest.mark.parametrize(('name', 'text', 'message'), [
    ('cvat-masks', 'road:1,1,1::\ntree:1,1,1::\n', 'road and tree have the same colour'),
    ('cvat-masks', 'road\n', 'line 1: expected name:red'),
    ('ade', 'Idx\tName\nwall\n', 'expected lines that begin with a number'),
    ('roboflow-masks', 'Pixel Value, Class\n1\n', 'expected lines of a pixel value'),
    ('roboflow-masks', 'Pixel Value, Class\nx,y\n', 'expected lines of a pixel value'),
    ('roboflow-masks', 'Pixel Value\n1,road\n', 'expected lines of a pixel value'),
    ('ade', 'Idx\tName\n1\twall\n1\tsky\n', 'index 1 is wall, and sky as well'),
    ('roboflow-masks', 'Pixel Value, Class\n1,road\n01,tree\n', 'index 1 is road, and tree as'),
    ('roboflow-masks', 'Pixel Value, Class\n256,road\n', r'expected indices 0\.\.255, got 256'),
    ('voc', '\n'.join(map(str, range(257))), r'expected indices 0\.\.255, got 256'),
    ('fiftyone', '{"1": "road", "01": "tree"}', 'index 1 is road, and tree as well'),
    ('fiftyone', '{"1": "road", "1": "tree"}', 'index 1 is road, and tree as well'),
    ('fiftyone', '["road"]', 'expected a name for each number or colour'),
    ('fiftyone', '{"#ff0000": "road", "1": "tree"}', '"#rrggbb", got #ff0000'),
    ('fiftyone', '{"#ff000": "road"}', '"#rrggbb", got #ff000'),
    ('fiftyone', '{"#ff00ff": "road", "#FF00FF": "tree"}', 'road and tree have the same colour'),
    ('fiftyone', '{', 'cannot be read: not JSON')])
def test_a_list_that_is_none_is_told(tmp_path, name, text, message):
    lists, masks, *_ = LAYOUTS[name]
    file = next(iter(lists))
    root = write(tmp_path, {file: text}, masks)
    with pytest.raises(AnnotationError, match=f'{file}.*{message}'):
        list(FORMATS[name].read(root))


@pytest.mark.parametrize('name', ['cvat-masks', 'ade', 'roboflow-masks', 'fiftyone'])
def test_a_list_that_is_missing_is_named_once(tmp_path, name):
    lists, masks, *_ = LAYOUTS[name]
    root, file = write(tmp_path, {}, masks), next(iter(lists))
    with pytest.raises(AnnotationError, match=f'^{root}/{file}: cannot be read: No such file or '
                       'directory$'):
        list(FORMATS[name].read(root))


def test_a_label_map_fits_the_image_that_it_is_for(tmp_path):
    lists, masks, *_ = LAYOUTS['voc']
    (image,) = FORMATS['voc'].read(write(tmp_path, lists, masks))
    assert image.size == (1, 4)
    with pytest.raises(AnnotationError, match='of 4×1 pixels, expected 1×4'):
        image.regions[0].shape.mask(4, 1)


def test_an_orientation_turns_a_label_map(tmp_path):
    lists, masks, *_ = LAYOUTS['voc']
    root = write(tmp_path, lists, masks)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.uint8([[1, 2]])).save(root / 'SegmentationClass' / 'a.png', exif=exif)
    (image,) = FORMATS['voc'].read(root)
    assert labels_of(image) == [['road'], ['tall tree']]
