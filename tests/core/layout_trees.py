"""Tiny trees of the published data sets, each in the exact layout of its download."""

import json
from pathlib import Path

import cv2
import numpy as np
from univseg_core.pictures.images import write_png

SIZE = 16


def image(seed: int = 0) -> np.ndarray:
    """Return 16×16 pixels of noise, (16, 16, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def codes(*values: int) -> np.ndarray:
    """Return a label map (16, 16) uint8 whose pixels take these values in turn."""
    return np.resize(np.array(values, np.uint8), (SIZE, SIZE))


def write_jpeg(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


def cityscapes(root: Path) -> Path:
    """Write 2 + 1 training images of two cities, 1 to validate with, 1 of train_extra."""
    for city, frame, part in (('aachen', 0, 'train'), ('aachen', 1, 'train'), ('ulm', 0, 'train'),
                              ('munster', 7, 'val'), ('bamberg', 3, 'train_extra')):
        name = f'{city}_{frame:06}_000019'
        write_png(root / 'leftImg8bit' / part / city / f'{name}_leftImg8bit.png', image(frame))
        if part != 'train_extra':
            labels = root / 'gtFine' / part / city
            write_png(labels / f'{name}_gtFine_labelIds.png', codes(*range(34)))
            write_png(labels / f'{name}_gtFine_color.png', image())
            (labels / f'{name}_gtFine_polygons.json').write_text('{}')
    return root


def camvid_grouped(root: Path) -> Path:
    """Write the version of 11 classes, 2 + 1 + 1 images, with its list files."""
    parts = {'train': ['0001TP_006690', '0006R0_f00930'], 'val': ['0016E5_07959'],
             'test': ['Seq05VD_f00000']}
    for part, names in parts.items():
        for name in names:
            write_png(root / part / f'{name}.png', image())
            write_png(root / f'{part}annot' / f'{name}.png', codes(*range(12)))
        (root / f'{part}.txt').write_text(''.join(
            f'/SegNet/CamVid/{part}/{name}.png /SegNet/CamVid/{part}annot/{name}.png\n'
            for name in names))
    return root


STILLS = ('0001TP_006690', '0001TP_008520', '0001TP_008550', '0001TP_010380', '0006R0_f00930',
          '0006R0_f03930', '0016E5_00390', '0016E5_07920', '0016E5_07959', '0016E5_08159',
          '0016E5_08190', 'Seq05VD_f00000', 'Seq05VD_f05100')


def camvid_original(root: Path, label: np.ndarray) -> Path:
    """Write 13 of the original stills, each with a colour-coded label (16, 16, 3)."""
    for name in STILLS:
        write_png(root / '701_StillsRaw_full' / f'{name}.png', image())
        write_png(root / 'LabeledApproved_full' / f'{name}_L.png', label)
    return root


def polygons(*objects: tuple[str, list], size: int = SIZE) -> str:
    """Return the JSON of polygons, each a label and its corners."""
    return json.dumps({'imgHeight': size, 'imgWidth': size, 'objects': [
        {'label': label, 'polygon': corners, 'deleted': 0, 'draw': True, 'id': i}
        for i, (label, corners) in enumerate(objects)]})


def idd(root: Path, ending: str = 'png') -> Path:
    """Write two drives to train with, which have frames of one name, and one to validate with."""
    for part, drive in (('train', '0'), ('train', '12'), ('val', '5')):
        path = root / 'leftImg8bit' / part / drive / f'frame0014_leftImg8bit.{ending}'
        (write_png if ending == 'png' else write_jpeg)(path, image())
        labels = root / 'gtFine' / part / drive / 'frame0014_gtFine_polygons.json'
        labels.parent.mkdir(parents=True)
        labels.write_text(polygons(
            ('sky', [[0, 0], [15, 0], [15, 15], [0, 15]]),
            ('road', [[0, 8], [15, 8], [15, 15], [0, 15]]),
            ('cargroup', [[2, 6], [5, 6], [5, 10], [2, 10]])))
    return root


SUN_FOLDERS = ('kv1/NYUdata/NYU0001', 'kv2/kinect2data/000002_rgbf000103-resize',
               'xtion/sun3ddata/home_at/0000103')


def sun_rgbd(root: Path) -> Path:
    """Write the toolbox and three images in nested folders; the last two are to train with."""
    import h5py
    from scipy.io import savemat

    toolbox = root / 'SUNRGBDtoolbox'
    (toolbox / 'Metadata').mkdir(parents=True)
    (toolbox / 'traintestSUNRGBD').mkdir()
    meta = np.zeros(3, [('rgbpath', object), ('rgbname', object), ('sequenceName', object)])
    with h5py.File(toolbox / 'Metadata' / 'SUNRGBD2Dseg.mat', 'w') as file:
        group = file.create_group('SUNRGBD2Dseg')
        references = group.create_dataset('seglabel', (3, 1), h5py.ref_dtype)
        for i, folder in enumerate(SUN_FOLDERS):
            name = '0000103.jpg'  # they repeat
            write_jpeg(root / 'SUNRGBD' / folder / 'image' / name, image(i))
            own = f'/n/fs/sun3d/data/SUNRGBD/{folder}'
            # Some of the real paths have two slashes, and some end in one.
            meta[i] = (f'{own}//image/{name}', name, f'SUNRGBD/{folder}/')
            label = codes(*range(38))
            label[0, 0] = i
            references[i, 0] = file.create_dataset(f'#refs#/{i}', data=label.T.astype('f8')).ref
    savemat(toolbox / 'Metadata' / 'SUNRGBDMeta.mat', {'SUNRGBDMeta': meta})
    own = [f'/n/fs/sun3d/data/SUNRGBD/{folder}/' for folder in SUN_FOLDERS]
    savemat(toolbox / 'traintestSUNRGBD' / 'allsplit.mat', {
        'alltrain': np.array(own[1:], object), 'alltest': np.array(own[:1], object)})
    return root


NYU_IMAGES = 12


def nyuv2(root: Path) -> Path:
    """Write the first 12 of the archive's images and labels; label i has i in its first row."""
    import h5py

    root.mkdir(parents=True, exist_ok=True)
    images = np.stack([image(i) for i in range(NYU_IMAGES)])
    labels = np.zeros((NYU_IMAGES, SIZE, SIZE), np.uint16)
    labels[:, 0] = np.arange(NYU_IMAGES)[:, None]
    labels[:, 1, :8] = [21, 157, 8, 892, 894, 1, 17, 0]
    with h5py.File(root / 'nyu_depth_v2_labeled.mat', 'w') as file:
        file['images'] = images.transpose(0, 3, 2, 1)
        file['labels'] = labels.transpose(0, 2, 1)
    return root
