"""The images that a run learned from with their labels."""

from pathlib import Path

from univseg_core.batches.parts import samples_of
from univseg_core.datasets.folders import DataError
from univseg_core.errors import did_you_mean, first_few, shortened
from univseg_core.files.records import read_json
from univseg_core.settings.config import load_config

SPLITS = 'splits.json'


def labelled_images(run: Path, domain: str) -> list[Path]:
    """
    Return the files of a domain's labelled images in a run, as its splits.json names them.

    Raises DataError where the run has no such domain, or one of them is not where its
    configuration says.
    """
    path = run / SPLITS
    try:
        splits = read_json(path)
        names = splits[domain]['labelled']['images'] if domain in splits else None
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f'{path}: damaged: expected the images of the run, by domain '
                        f'({shortened(repr(error))})') from error
    if names is None:
        raise DataError(f'{path}: the run has no domain {domain!r}, but {", ".join(splits)}'
                        f'{did_you_mean(domain, splits)}')
    section = load_config(run / 'config.yaml', files_needed=False).domains[domain]
    files = {sample.name: sample.image for sample in samples_of(domain, section, 'train')}
    if gone := [name for name in names if name not in files]:
        raise DataError(f'{path}: {len(gone)} of {len(names)} labelled images of {domain} are no '
                        f'longer in its training folder: {first_few(gone)}')
    return [files[name] for name in names]
