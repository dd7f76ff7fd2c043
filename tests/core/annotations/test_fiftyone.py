import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from univseg_core.annotations.fiftyone import FiftyOneFolder
from univseg_core.annotations.regions import AnnotationError
from univseg_core.domains import Domain, IGNORE_INDEX


def test_zero_is_void_and_one_the_first_class(tmp_path):
    writer = FiftyOneFolder(tmp_path, Domain.create('yard', ('tree', 'Weg')))
    writer.add(Path('images/a.b.jpg'), np.array([[0, 1, IGNORE_INDEX]], np.uint8), 0.9)
    writer.finish()
    written = cv2.imread(str(tmp_path / 'labels' / 'a.b.png'), cv2.IMREAD_UNCHANGED)
    assert written.tolist() == [[1, 2, 0]]
    assert json.loads((tmp_path / 'mask_targets.json').read_text()) == {'1': 'tree', '2': 'Weg'}


def test_a_domain_whose_last_class_would_come_back_as_void_is_refused(tmp_path):
    domain = Domain.create('all', [f'class {i}' for i in range(255)])
    with pytest.raises(AnnotationError, match='254 classes at most'):
        FiftyOneFolder(tmp_path, domain)
