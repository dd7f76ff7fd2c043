"""Files of tensors: what they claim is held against limits before it is read."""

import json
import struct
import zipfile

import pytest
from safetensors import SafetensorError
from safetensors.torch import save_file
import torch
from univseg_core.models import tensor_files
from univseg_core.models.encoders import build_encoder
from univseg_core.models.model_file import load_model, ModelFileError
from univseg_core.models.pretrained import load_weights
from univseg_core.models.tensor_files import read_shapes, read_tensors, TensorFileError
from univseg_core.models.timm_encoder import EncoderError
from univseg_core.reporting.description import describe, DescriptionError
from univseg_core.training.checkpoint import what_to_do


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'a.safetensors'
    save_file({'a': torch.arange(6.0).reshape(2, 3), 'b': torch.zeros(1)}, path, {'k': 'v'})
    return path


def test_tensors_or_their_shapes_with_the_metadata(path):
    tensors, metadata = read_tensors(path)
    assert tensors['a'].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert metadata == {'k': 'v'}
    assert read_shapes(path) == ({'a': (2, 3), 'b': (1,)}, metadata)


@pytest.mark.parametrize('read', [read_tensors, read_shapes])
def test_what_is_beyond_a_limit_is_not_read(path, read, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(tensor_files, 'MOST_TENSORS', 1)
        with pytest.raises(TensorFileError, match='2 tensors; expected 1 at most'):
            read(path)
    for variable, message in (('UNIVSEG_MAX_TEXT', 'a header of more than 9 bytes'),
                              ('UNIVSEG_MAX_MODEL', f'{path.stat().st_size} bytes, more than 9')):
        with monkeypatch.context() as context:
            context.setenv(variable, '9')
            with pytest.raises(TensorFileError, match=f'{message}.*{variable}') as told:
                read(path)
        assert 'may be good' in what_to_do(told.value, 'start again')


def test_what_is_no_file_of_tensors_is_not_said_to_be_too_large(tmp_path):
    for content in (b'x' * 100, b'', struct.pack('<Q', 2**62) + b'{}'):
        (tmp_path / 'a').write_bytes(content)
        with pytest.raises(SafetensorError):
            read_tensors(tmp_path / 'a')
    with pytest.raises(SafetensorError, match='not a file'):
        read_tensors(tmp_path)


def test_those_who_read_such_files_name_them_with_the_limit(path, monkeypatch):
    monkeypatch.setenv('UNIVSEG_MAX_MODEL', '9')
    told = r'a\.safetensors: .* bytes, more than 9 bytes, which UNIVSEG_MAX_MODEL changes'
    with pytest.raises(ModelFileError, match=told):
        load_model(path)
    with pytest.raises(DescriptionError, match=told):
        describe(path)
    with pytest.raises(EncoderError, match=told):
        load_weights(build_encoder('light'), 'light', path)


@pytest.mark.parametrize('text', ['[' * 100_000, '{"domains":' * 100_000, '9' * 5000])
def test_a_description_that_is_too_deep_is_damaged(tmp_path, text):
    header = json.dumps({'__metadata__': {'univseg': text, 'checkpoint': text}}).encode()
    (tmp_path / 'a').write_bytes(struct.pack('<Q', len(header)) + header)
    with pytest.raises(ModelFileError, match='its description is damaged'):
        load_model(tmp_path / 'a')


def test_packed_weights_that_unpack_to_more_than_the_limit_are_not_read(tmp_path, monkeypatch):
    encoder = build_encoder('light')
    torch.save(encoder.state_dict(), tmp_path / 'plain.pth')
    with (zipfile.ZipFile(tmp_path / 'plain.pth') as plain,
          zipfile.ZipFile(tmp_path / 'a.pth', 'w', zipfile.ZIP_DEFLATED) as packed):
        for part in plain.infolist():
            packed.writestr(part.filename, bytes(part.file_size))
        size = sum(part.file_size for part in plain.infolist())
    assert (tmp_path / 'a.pth').stat().st_size < size / 2
    monkeypatch.setenv('UNIVSEG_MAX_MODEL', str(size - 1))
    with pytest.raises(EncoderError, match='UNIVSEG_MAX_MODEL changes'):
        load_weights(encoder, 'light', tmp_path / 'a.pth')
