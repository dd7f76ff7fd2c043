"""The command `univseg view`: what it is given, and what it says where that cannot be."""

from pathlib import Path

import pytest
from univseg_core.commands import view
from univseg_core.viewing.keys import ACTIONS, KEYS


def test_the_first_path_is_the_model_where_it_is_one(tmp_path):
    run, photos = tmp_path / 'run', tmp_path / 'photos'
    run.mkdir()
    photos.mkdir()
    (run / 'config.yaml').touch()
    for named, paths, expected in (
            (None, [], (view.DEMO, [])),
            (None, [photos], (view.DEMO, [photos])),
            (None, [run, photos], (run, [photos])),
            (None, [Path('demo')], (Path('demo'), [])),
            (None, [Path('a.univseg')], (Path('a.univseg'), [])),
            (None, [Path('A.ONNX'), photos, photos], (Path('A.ONNX'), [photos, photos])),
            (run, [photos], (run, [photos]))):
        assert view.model_and_pictures(named, paths) == expected


def test_every_key_has_one_action_and_words():
    assert len(ACTIONS) == sum(len(key.names) for key in KEYS)
    for key in KEYS:
        assert key.meaning in view.EXAMPLES


@pytest.mark.parametrize('screen', ['', ':0'])
def test_a_browser_is_opened_where_there_is_a_screen(monkeypatch, caplog, screen):
    monkeypatch.setattr(view.sys, 'platform', 'linux')
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    monkeypatch.setenv('DISPLAY', screen)
    opened = []
    monkeypatch.setattr(view.webbrowser, 'open', lambda url: opened.append(url) or True)
    monkeypatch.setattr(view.threading, 'Thread', lambda target, daemon: type(
        'Now', (), {'start': staticmethod(target)}))
    with caplog.at_level('INFO'):
        view.open_browser('http://here')
    assert opened == (['http://here'] if screen else [])
    assert ('no display here' in caplog.text) is not bool(screen)
