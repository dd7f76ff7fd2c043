"""What the tests of recording share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from univseg_core.recording.budget import Budget
from univseg_core.recording.policies import KeepAll, Policy
from univseg_core.recording.recorder import Recorder, RecorderSettings


@pytest.fixture
def make_recorder(tmp_path: Path) -> Iterator[Callable]:
    """Return a function that makes recorders, which are stopped at the end."""
    recorders = []

    def make(policy: Policy | None = None, max_size: int = 0, drops_oldest: bool = False,
             directory: Path = tmp_path, **settings) -> Recorder:
        said = []
        recorder = Recorder(RecorderSettings(directory, **settings), policy or KeepAll(),
                            Budget(directory, max_size, 0, drops_oldest),
                            lambda level, text: said.append((level, text)))
        recorder.said = said
        recorders.append(recorder)
        return recorder

    yield make
    for recorder in recorders:
        recorder.stop()
