"""`univseg view`: a page on this machine that shows what a model makes of pictures."""

import argparse
import logging
import os
from pathlib import Path
import sys
import threading
from typing import Any
import webbrowser

from univseg_core.commands.options import (
    add_model,
    add_running,
    Command,
    model_file,
    running,
    whole,
)
from univseg_core.commands.output import report
from univseg_core.errors import in_one_line
from univseg_core.viewing.keys import keys_text

DEMO = Path('demo')
"""The model where none is named: the one that ships."""

MODEL_ENDINGS = ('.univseg', '.onnx')
RUN_FILES = ('config.yaml', 'model.univseg')
"""What tells a run's folder from one of pictures."""

EXAMPLES = f"""examples:
  univseg view yard.univseg photos/                 a folder of pictures, by a model file
  univseg view runs/first photo.jpg other.png       some pictures, by a run's model
  univseg view yard.onnx drive_1 --topic /camera/image_raw      a ROS 2 bag, by an exported model
  univseg view runs/first drive.mp4 --device cuda   a video
  univseg view                                      the demo model, and pictures dropped in
  univseg view runs/first photos/ --no-browser --port 8080      open the address by hand

The page shows each frame as one domain, all side by side, or the one that it is recognised as
(auto); its classes, how confident the model is, or how undecided (entropy); the class under the
cursor; and a legend whose classes go on and off. Nothing stays written. Keys:
{keys_text()}

The page is served to this machine alone (127.0.0.1), and only to whom has the token in its
address. Of another machine: ssh -L PORT:127.0.0.1:PORT ROBOT, with --port PORT there, and the
printed address here. Ctrl-C ends it. It needs the extra `view`: pip install '.[torch,view]'.
"""

log = logging.getLogger(__name__)


def add_to(command: Command) -> None:
    """Add the command to the command line's grammar."""
    sub = command('view', _view, 'look at a model in a browser: its masks of pictures, bags and '
                  'videos', EXAMPLES)
    sub.add_argument('paths', nargs='*', type=Path, metavar='MODEL|PICTURES|BAG|VIDEO',
                     help='a model file, an exported one, or the folder of a finished run '
                          '(default: demo); then what it is to look at: pictures and folders of '
                          'them, or one ROS 2 bag or video')
    add_model(sub)
    sub.add_argument('--topic', action='append', default=[], metavar='NAME', dest='topics',
                     help='a topic of a bag; may be repeated (default: the only one of images)')
    sub.add_argument('--port', type=whole(1, 65535), default=0, metavar='PORT',
                     help='of the address (default: a free one)')
    sub.add_argument('--no-browser', action='store_true',
                     help='print the address, and open no browser')
    add_running(sub)


def model_and_pictures(named: Path | None, paths: list[Path]) -> tuple[Path, list[Path]]:
    """Return the model, which may be named or be the first of the paths, and the other paths."""
    if named is not None:
        return named, paths
    if paths and names_a_model(paths[0]):
        return paths[0], paths[1:]
    return DEMO, paths


def names_a_model(path: Path) -> bool:
    """Return whether a path is that of a model, not of something to look at."""
    return (path == DEMO or path.suffix.lower() in MODEL_ENDINGS
            or any((path / name).is_file() for name in RUN_FILES))


def _view(options: argparse.Namespace) -> None:
    from univseg_core.inference.segmenter import Segmenter
    from univseg_core.viewing.server import PageServer
    from univseg_core.viewing.viewer import Viewer

    named, paths = model_and_pictures(options.model, options.paths)
    segmenter = Segmenter.load(model_file(named, options.backend), **running(options))
    with Viewer(segmenter, paths, options.topics) as viewer:
        server = PageServer(viewer, f'univseg view: {in_one_line(named.name or named)}',
                            options.port)
        values: dict[str, Any] = {'url': server.url, 'model': str(named)}
        report(options, values, server.url)
        sys.stdout.flush()
        if not options.no_browser:
            open_browser(server.url)
        log.info('Ctrl-C ends it')
        server.serve_until_ended()


def open_browser(url: str) -> None:
    """Open an address in a browser with a screen; say so where there is none."""
    # Without a screen, Python's own way could take over the terminal with a browser of texts.
    has_screen = sys.platform in ('darwin', 'win32') or any(
        os.environ.get(name) for name in ('DISPLAY', 'WAYLAND_DISPLAY'))
    if not has_screen:
        log.info('no display here: open the address by hand')
        return

    def open_it() -> None:
        if not webbrowser.open(url):
            log.info('no browser was found: open the address by hand')

    threading.Thread(target=open_it, daemon=True).start()
