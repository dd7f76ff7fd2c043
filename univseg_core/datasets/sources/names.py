"""The names that videos and folders have in the manifest, as several may be called alike."""

from collections.abc import Callable
import json
from pathlib import Path

from univseg_core.datasets.sources.source import SourceError
from univseg_core.errors import in_one_line
from univseg_core.files import write_text
from univseg_core.files.records import read_json

SOURCES = 'sources.json'


class SourceNames:
    """
    The names of the videos and folders that `folder` has frames of, kept in its file SOURCES.

    A second front.mp4 is front.mp4-2. Raises SourceError where the file is damaged.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._file = folder / SOURCES
        self._identities: dict[str, str] = {}
        if not self._file.is_file():
            return
        try:
            self._identities = read_json(self._file)
            if not (isinstance(self._identities, dict)
                    and all(isinstance(each, str) for each in self._identities.values())):
                raise ValueError('expected a text for each name')
        except ValueError as error:
            raise SourceError(f'{self._file}: damaged: {error}') from error

    def name(self, source: Path, identity: str,
             continues: Callable[[str], bool] = lambda known: False) -> str:
        """
        Return the name of a source, which is kept from now on for whatever has its identity.

        A source that `continues` a known identity has its name, and the new identity replaces it.
        """
        name = next((name for name, known in self._identities.items() if known == identity), None)
        if name is not None:
            return name
        name = next((name for name, known in self._identities.items() if continues(known)),
                    None) or self._new_name(source)
        self._identities[name] = identity
        write_text(self._file, json.dumps(self._identities, indent=1) + '\n')
        return name

    def _new_name(self, source: Path) -> str:
        stem = name = in_one_line(source.resolve().name)
        number = 1
        while name in self._identities:
            number += 1
            name = f'{stem}-{number}'
        return name
