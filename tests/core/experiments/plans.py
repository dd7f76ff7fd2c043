"""The runs that an experiment takes, and what became of them."""


from univseg_core.research.plan import plan
from univseg_core.research.settings import load_experiment
from univseg_core.training.run_settings import differing_settings


def calls(tmp_path):
    return (tmp_path / 'calls').read_text().splitlines()


def planned(path, root, *overrides, only=()):
    return plan(load_experiment(path, overrides), root, only)


def names(runs, root):
    return [str(run.folder.relative_to(root)) for run in runs]


def difference(config, other):
    """Return the settings that differ, without the text of differing_settings."""
    return {line.split(':')[0] for line in differing_settings(config, other)}
