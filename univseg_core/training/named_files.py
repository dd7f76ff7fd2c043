"""The model and weight files that a configuration names: whether they are what they were."""

from dataclasses import asdict, dataclass
import json
import logging
from pathlib import Path

from univseg_core.files import sha256_of, write_text
from univseg_core.files.records import read_json
from univseg_core.settings.config import RunConfig
from univseg_core.training.checkpoint import CHECKPOINT, read_beginning
from univseg_core.training.large_model import SETTING as TEACHER
from univseg_core.training.run_folder import CONFIG
from univseg_core.training.run_label_embeddings import LABEL_EMBEDDINGS
from univseg_core.training.safety import TrainingError
from univseg_core.training.start_model import BEFORE

FILES = 'files.json'
"""Where a run keeps what its files held when it began; runs of earlier versions lack it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedFile:
    """Where a file lies, and what it holds: its size, and its SHA-256 in hexadecimal."""

    path: str
    bytes: int
    sha256: str


def named_files(config: RunConfig) -> dict[str, Path]:
    """Return the files that a run of this configuration learns from, by the settings' keys."""
    section, files = config.label_embeddings, {}
    if config.model.start is not None:
        files['model.start'] = config.model.start
    if config.loads_weights and config.model.weights != 'imagenet':
        files['model.pretrained'] = Path(config.model.weights)
    if config.objective.needs_label_embeddings:
        if section.file is not None:
            files['label_embeddings.file'] = section.file
        for name, path in (section.networks or {}).items():
            files[f'label_embeddings.networks.{name}'] = path
    if config.objective.large_model is not None:
        files[TEACHER] = config.objective.large_model
    return files


def has_begun(config: RunConfig, run: Path) -> bool:
    """
    Return whether a run's folder holds all that it takes from the files that it begins with.

    Then it reads none of them any more, but the large model that teaches it. Raises
    CheckpointError where its checkpoint is damaged.
    """
    return (read_beginning(run / CHECKPOINT) is not None
            and (config.model.start is None or (run / BEFORE).exists())
            and (not config.objective.needs_label_embeddings
                 or (run / LABEL_EMBEDDINGS).exists()))


def check_named_files(config: RunConfig, run: Path, begun: bool) -> None:
    """
    Compare the files that a run learns from with what they held when it first started.

    Raises TrainingError where one is another, or not to be read, unless the run has `begun`:
    then it is told of all but the large model that teaches it, which is needed to the end.
    """
    noted, resumed = _read(run / FILES), (run / CONFIG).exists()
    for setting, path in named_files(config).items():
        before, needed = noted.get(setting), not begun or setting == TEACHER
        try:
            if not path.is_file():
                raise FileNotFoundError('no such file')
            other = before is not None and before.path == str(path) and (
                path.stat().st_size != before.bytes or sha256_of(path) != before.sha256)
        except OSError as error:
            what = f'{setting}: {path}: {error.strerror or error}'
            if needed:
                raise TrainingError(what) from None
            log.warning('%s; the run goes on with what it took from it', what)
            continue
        if other and needed:
            raise TrainingError(f'{setting}: {path} is not what it was when the run in {run} '
                                'first started, and that has still to read it: bring the file '
                                'back, or name another --run folder')
        if other:
            log.warning('%s: %s is not what it was when the run in %s first started; the run goes '
                        'on with what it took from it then', setting, path, run)
        if before is None and resumed:
            log.warning('%s: %s: what it was when the run in %s first started was not noted, and '
                        'is not compared', setting, path, run)


def note_named_files(config: RunConfig, run: Path) -> None:
    """Write down what the files hold that a run learns from; what is written already stays."""
    noted = _read(run / FILES)
    new = {setting: NamedFile(str(path), path.stat().st_size, sha256_of(path))
           for setting, path in named_files(config).items()
           if setting not in noted and path.is_file()}
    if new:
        write_text(run / FILES, json.dumps(
            {setting: asdict(file) for setting, file in (noted | new).items()}, indent=1))


def _read(path: Path) -> dict[str, NamedFile]:
    if not path.exists():
        return {}
    try:
        return {setting: NamedFile(**values) for setting, values in read_json(path).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise TrainingError(f'{path}: damaged ({error!r}); remove it to go on without comparing '
                            'the files that the configuration names') from None
