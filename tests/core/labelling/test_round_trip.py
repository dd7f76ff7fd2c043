"""What prelabel writes for a tool is recognised when it comes back, and is the same labels."""

import json

from label_maps import YARD
import numpy as np
from PIL import Image
import pytest
from tiny_worlds import random_image
from univseg_core.cli import main
from univseg_core.labelling.prelabels import PrelabelFolder, written_formats
from univseg_core.pictures.images import write_png

READ_AS = {'masks': 'cvat-masks', 'coco-polygons': 'coco', 'cvat-polygons': 'cvat'}


@pytest.mark.parametrize('name', written_formats())
def test_labels_go_out_and_come_back(monkeypatch, tmp_path, capsys, name):
    monkeypatch.setattr('univseg_core.commands.label_import._domain',
                        lambda options: (YARD, None))
    mask = np.full((24, 32), 255, np.uint8)
    mask[2:, :20], mask[2:, 20:] = 0, 1
    mask[5:9, 15:25] = 2  # over both
    mask[6:8, 17:19] = 255  # and a hole in it
    masks = {'a': mask, 'b': mask[::-1, ::-1]}
    folder = PrelabelFolder(tmp_path / 'out', YARD, [name])
    for seed, (stem, classes) in enumerate(masks.items()):
        write_png(tmp_path / 'frames' / f'{stem}.png', random_image(24, 32, seed))
        folder.add(tmp_path / 'frames' / f'{stem}.png', classes, 0.9)
    folder.finish()
    if name == 'label-studio':  # a person accepts what was predicted
        tasks = json.loads((tmp_path / 'out' / 'tasks.json').read_text())
        for task in tasks:
            task['annotations'] = task.pop('predictions')
        (tmp_path / 'out' / 'tasks.json').write_text(json.dumps(tasks))
    assert main(['import-labels', str(tmp_path / 'out'), '--frames', str(tmp_path / 'frames'),
                 '--config', 'any', '--domain', 'yard', '--out', str(tmp_path / 'back'),
                 '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told['format'], told['added']) == (READ_AS.get(name, name), ['a', 'b'])
    assert (told['as_prelabelled'], told['not_read']) == (['a', 'b'], [])
    for stem, classes in masks.items():
        back = np.array(Image.open(tmp_path / 'back' / 'label' / f'{stem}.png'))
        np.testing.assert_array_equal(back, classes)
