"""The folder of a run, which belongs to one configuration and one process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
import logging
import os
from pathlib import Path

from univseg_core.files import remove_leftovers, write_text
from univseg_core.files.yaml_text import parse_yaml, read_yaml
from univseg_core.settings.config import dump_config, RunConfig
from univseg_core.training.run_settings import differing_settings
from univseg_core.training.safety import TrainingError

CONFIG = 'config.yaml'

log = logging.getLogger(__name__)


@contextmanager
def claimed_run_folder(run: Path, config: RunConfig) -> Iterator[None]:
    """
    Hold a run folder: write its config.yaml, and remove what a killed process left half-written.

    Settings that decide nothing of what is learned may differ; config.yaml keeps those of the
    first start. Raises TrainingError where it holds a run with other settings, or one that is
    going on.
    """
    path, text = run / CONFIG, dump_config(config)
    if not path.exists():
        write_text(path, text)
    with path.open('r+', encoding='utf-8') as file:
        there = read_yaml(path)
        if not isinstance(there, dict):
            raise TrainingError(f'{path}: damaged: expected the settings of the run')
        if differences := differing_settings(there, parse_yaml(text)):
            raise TrainingError(f'{run} holds a run with other settings:\n  '
                                + '\n  '.join(differences) + '\nName another --run folder.')
        try:
            # The kernel lets go of it when the process ends, however it ends. Unlike flock's, this
            # lock is not inherited by forked workers, which may outlive it by some seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                raise BlockingIOError  # another first start has replaced the file meanwhile
        except (BlockingIOError, PermissionError):
            raise TrainingError(f'{run}: another process is training in this folder') from None
        except OSError as error:  # a network file system that has no locks
            log.info('%s: cannot be locked (%s)', run, error.strerror)
        for folder in (run, run / 'joint', *run.glob('supervised/*')):
            remove_leftovers(folder)
        yield
