"""What they have in their folder who follow the documentation: pictures, labels, bags, models."""

from pathlib import Path
import shutil

from bag_files import raw, write_bag
import cv2
import numpy as np
from tiny_worlds import draw
from univseg_core.cli import main
from univseg_core.pictures.images import read_image, write_png
import yaml

CLASSES = {
    'yard': ['ground', 'building', 'tree', 'sky', 'person', 'vehicle'],
    'hall': ['floor', 'wall', 'ceiling', 'door', 'person', 'furniture'],
}
"""The classes of two places, as the pages have them."""

CONFIGURATIONS = {'my.yaml': {'outdoor': 'yard', 'indoor': 'hall'},
                  'of_places.yaml': {'yard': 'yard', 'hall': 'hall'}}
"""The domains of each configuration, and of which place their pictures are."""

MODEL = {'encoder': 'light', 'width': 1 / 16, 'embedding_dim': 8, 'stride': 8}
"""The network of all runs: that of `small_network(encoder='light')`."""

PARTS = {'train': 24, 'validation': 8}
CAMERAS = ('front', 'camera')


def write_world(root: Path) -> None:
    """
    Write into a folder what the pages name.

    yard/ and hall/ are labelled pictures, photos/ and frames/ some of these without labels, and
    front_bag/, camera_bag/ and drive.mp4 a drive; my.yaml and of_places.yaml are configurations,
    run/ is a run of the first, and yard.onnx its model.
    """
    for seed, (place, classes) in enumerate(CLASSES.items()):
        _write_place(root / place, classes, np.random.default_rng(seed))
    seen = sorted(root.glob('*/validation/image/*'))
    for folder in ('photos', 'frames'):
        (root / folder).mkdir()
        for path in seen:
            shutil.copy(path, root / folder / f'{path.parents[2].name}_{path.name}')
    images = [read_image(path) for path in seen]
    messages = [raw(number, image) for number, image in enumerate(images)]
    for camera in CAMERAS:
        write_bag(root / f'{camera}_bag', {f'/{camera}/image_raw': messages})
    _write_video(root / 'drive.mp4', images)
    for name, domains in CONFIGURATIONS.items():
        values = _configuration(root, domains)
        (root / name).write_text(yaml.safe_dump(values, sort_keys=False))
    for words in (['train', root / 'my.yaml', '--run', root / 'run'],
                  ['export', root / 'run', '--to', 'onnx', '--out', root / 'yard.onnx']):
        assert main([*map(str, words), '--quiet']) == 0


def _write_place(folder: Path, classes: list[str], generator: np.random.Generator) -> None:
    colours = generator.integers(20, 236, (len(classes), 3))
    for part, count in PARTS.items():
        for number in range(count):
            image, label = draw(colours, generator)
            write_png(folder / part / 'image' / f'{number:04}.png', image)
            write_png(folder / part / 'label' / f'{number:04}.png', label)
    (folder / 'classes.txt').write_text('\n'.join(classes))


def _write_video(path: Path, images: list[np.ndarray]) -> None:
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 10, (width, height))
    for image in images:
        writer.write(image[..., ::-1])
    writer.release()


def _configuration(root: Path, domains: dict[str, str]) -> dict:
    def folders(place: str, part: str) -> dict:
        return {f'{kind}s': str(root / place / part / kind) for kind in ('image', 'label')}

    return {
        'domains': {domain: {
            'classes': CLASSES[place], 'labelled': 8,
            **{part: folders(place, part) for part in PARTS}}
            for domain, place in domains.items()},
        'model': dict(MODEL),
        'data': {'image_size': 64, 'crop_size': 48},
        'objective': {'consistency': 0},
        'training': {'steps': 30, 'learning_rate': 0.01, 'accelerator': 'cpu',
                     'validate_every': 30, 'checkpoint_every': 30}}
