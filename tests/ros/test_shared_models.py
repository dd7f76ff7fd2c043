"""One model in memory for several nodes of a process."""

import gc
import os
import shutil
import threading
import weakref

import pytest
from univseg_core.files import sha256_of
from univseg_core.inference.model_names import SHIPPED
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.model_card import ModelFileError
from univseg_ros.segmentation_node import load
from univseg_ros.shared_models import load_shared


@pytest.fixture
def loads(monkeypatch):
    """Return the list of the paths that are loaded from now on."""
    paths = []
    load = Segmenter.load

    def noted(path, **options):
        paths.append(path)
        return load(path, **options)

    monkeypatch.setattr(Segmenter, 'load', noted)
    return paths


@pytest.fixture
def path(model_file, tmp_path):
    """Return the path of a model that no other test has loaded."""
    return shutil.copy(model_file, tmp_path / 'model.univseg')


def shared(path, *, device='cpu', precision='fp32', backend='torch'):
    return load_shared(path, device=device, precision=precision, inference_size=None,
                       backend=backend)[0]


def test_threads_that_share_a_model_get_their_own_masks(path, pictures):
    found = {size: shared(path) for size in (None, 24)}
    expected = {(size, number): segmenter(picture, confidence=True, inference_size=size)['indoor']
                for size, segmenter in found.items() for number, picture in enumerate(pictures)}
    assert expected[None, 0].mask.shape == expected[24, 0].mask.shape
    assert (expected[None, 0].confidence != expected[24, 0].confidence).any()
    wrong = []

    def segment(size):
        for _ in range(15):
            for number, picture in enumerate(pictures):
                segmentation = found[size](
                    picture, confidence=True, inference_size=size)['indoor']
                right = expected[size, number]
                if ((segmentation.mask != right.mask).any()
                        or (segmentation.confidence != right.confidence).any()):
                    wrong.append((size, number))

    threads = [threading.Thread(target=segment, args=(size,)) for size in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_of_several_at_once_one_loads(path, loads):
    found = []
    threads = [threading.Thread(target=lambda: found.append(shared(path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [path]
    assert len({id(segmenter) for segmenter in found}) == 1


@pytest.mark.parametrize('option', [{'device': 'auto'}, {'precision': 'auto'},
                                    {'backend': 'auto'}])
def test_what_was_asked_for_otherwise_is_loaded_for_itself(path, loads, option):
    one, other = shared(path), shared(path, **option)
    assert len(loads) == 2
    assert one._backend is not other._backend


def test_a_link_is_the_same_file_and_a_copy_another(path, loads, tmp_path):
    (tmp_path / 'link').symlink_to(path)
    kept = shared(path), shared(tmp_path / 'link')
    assert kept[0]._backend is kept[1]._backend
    kept += (shared(shutil.copy2(path, tmp_path / 'copy')),)
    assert loads == [path, tmp_path / 'copy']


def test_a_file_that_took_the_place_of_another_is_loaded(path, loads, tmp_path):
    first = shared(path)
    shutil.copy2(path, tmp_path / 'new')
    (tmp_path / 'new').rename(path)
    second = shared(path)
    # Written over, as large and as old as it was.
    data, times = path.read_bytes(), path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    third = shared(path)
    assert len({id(segmenter._backend) for segmenter in (first, second, third)}) == 3
    assert loads == [path] * 3


@pytest.mark.parametrize(('backend', 'file'), [
    ('torch', 'demo.univseg'), ('openvino', 'demo.onnx')])
def test_the_model_that_ships_is_loaded_by_its_name(backend, file):
    segmenter, digest, _ = load('demo', 'cpu', 'auto', 0, backend, 1)
    assert segmenter.backend == backend
    assert list(segmenter.domains) == ['outdoor', 'indoor']
    assert digest == sha256_of(SHIPPED / file)


def test_the_model_goes_with_the_last_that_uses_it(path, loads):
    one, other = shared(path), shared(path)
    backend = weakref.ref(one._backend)
    del one
    gc.collect()
    third = shared(path)
    assert third._backend is backend()
    del other, third
    gc.collect()
    assert backend() is None
    assert loads == [path]
    shared(path)
    assert loads == [path, path]


def test_what_cannot_be_loaded_is_told_and_not_kept(path, tmp_path, loads):
    for _ in range(2):
        with pytest.raises(ModelFileError, match=r'none\.univseg'):
            shared(tmp_path / 'none.univseg')
    kept = shared(path)
    assert shared(path) is kept
