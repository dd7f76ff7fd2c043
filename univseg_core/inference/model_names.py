"""A model as commands, settings and nodes name it → its file."""

import logging
from pathlib import Path

from univseg_core.errors import UnivsegError
from univseg_core.inference.backends import BACKENDS, installed

DEMO = 'demo'
"""The name of the model that ships; univseg_core.demo.make_model makes it."""

SHIPPED = Path(__file__).parents[1] / 'model_files'
"""The folder of its two files, a form each: demo.univseg, and demo.onnx that was exported."""

RUN_MODEL = 'model.univseg'
"""The model file in the folder of a finished run."""

log = logging.getLogger(__name__)


def model_file(named: Path, backend: str = 'auto') -> Path:
    """
    Return the file of a model as it is named: a file, the folder of a finished run, or demo.

    Of demo, a `backend` of exported models gets the exported file, torch the model file, and auto
    the latter where PyTorch is installed. The name stands for the model that ships wherever a
    command is started; the log says so where a file or folder of this name is there.
    Raises UnivsegError for a folder that is no finished run. Whether a file is there, and a model,
    is for who loads it to tell.
    """
    if named == Path(DEMO):
        return _shipped(backend)
    if not named.is_dir():
        return named
    if not (named / RUN_MODEL).is_file():
        raise UnivsegError(f'{named}: not a finished run: it has no {RUN_MODEL} yet')
    return named / RUN_MODEL


def _shipped(backend: str) -> Path:
    if (here := Path(DEMO).absolute()).exists():
        log.warning('%s is the model that ships with univseg; where %s is meant, its whole path '
                    'says so', DEMO, here)
    exported = BACKENDS[backend].exported if backend in BACKENDS else not installed(False)
    return SHIPPED / f'{DEMO}{".onnx" if exported else ".univseg"}'
