"""The commands of README and docs are run as they are written, page by page."""

from copy import deepcopy
from functools import partial
from pathlib import Path
import shutil
from typing import NamedTuple

from documented import all_commands, blocks, ROOT
from documented_world import MODEL, write_world
import onnx
import pytest
from run_files import leave_out_pictures
from univseg_core.cli import main, parse
from univseg_core.demo.scenes import worlds
from univseg_core.exporting import export
from univseg_core.inference.torch_backend import folded

LESS = (*(f'model.{key}={value}' for key, value in MODEL.items()),
        'data.image_size=64', 'data.crop_size=48', 'training.steps=2',
        'training.validate_every=2', 'training.checkpoint_every=2', 'training.accelerator=cpu')
"""Settings that make a training one of a second, whatever a command says."""


class Page(NamedTuple):
    """
    What a page has lie there, and what it says comes out.

    `given` are paths, or PATH:SOURCE where what lies there is called otherwise in the world of the
    tests, or is made by the page itself and taken there by a person; SOURCE `page` stands for the
    configuration that the page shows. `made` are paths.
    """

    given: str
    made: str
    less: tuple[str, ...] = ()
    """Further settings, as the world is small."""
    anew: str = ''
    """A path that is taken away before a command makes it again, in a section of its own."""


YARD = 'frames yard yard.univseg:run/model.univseg'
"""What the pages on labelling begin with."""

OF_AN_EXPERIMENT = ROOT / 'docs' / 'experiments' / 'camvid_nyuv2_light_120x90_runs.csv'

RUN = {
    'README.md': Page(
        'yard hall bags/drive:front_bag model.univseg:runs/first/model.univseg',
        'my.yaml runs/first/model.univseg runs/first/model.onnx '
        'frames/manifest.csv ranking/rank.csv to_correct/labelmap.txt yard/train/import.png '
        'runs/second/model.univseg'),
    'docs/getting_started.md': Page(
        'demo_output/run:run demo_output/frames:photos',
        'scenes/outdoor/validation/image demo_masks masks/yard_0000_mask.png'),
    'docs/tutorial.md': Page(
        'places.yaml:page pictures/yard:yard/train/image pictures/hall:hall/train/image '
        'annotated/yard:yard/train/label annotated/hall:hall/train/label bags/drive:camera_bag '
        'annotations.xml:to_correct/annotations.xml',
        'labelled/yard/image labelled/hall/label labelled/yard/import.png '
        'runs/first/evaluation.md runs/first/yard.png runs/first/model_int8.onnx '
        'frames/manifest.csv ranking/rank.csv to_correct/annotations.xml '
        'runs/second/evaluation.md'),
    'docs/training.md': Page(
        'my.yaml:page yard yard/bags/frames:frames corridor:hall photos',
        'runs/first/model.univseg masks/yard_0000_mask.png', ('domains.yard.labelled=20',)),
    'docs/export.md': Page(
        'runs/first:run yard.univseg:run/model.univseg photos frames/yard:yard/train/image '
        'frames/hall:hall/train/image',
        'runs/first/model.onnx runs/first/model_openvino_int8.onnx '
        'runs/first/model_tensorrt_fp16.onnx yard_int8.onnx'),
    'docs/labelling.md': Page(
        YARD, 'ranking/rank.csv to_correct/labelmap.txt yard/labelled/classes.txt '
        'yard/labelled/import.png to_correct/annotations.xml to_correct/cvat_labels.json',
        anew='to_correct'),
    'docs/ranking.md': Page(YARD, 'ranking/rank.csv ranking/rank.png'),
    'docs/frames.md': Page(
        'drive_1:front_bag drive_2:front_bag drive.mp4 photos',
        'frames/manifest.csv all_frames/manifest.csv'),
    'docs/recognising.md': Page(
        'photos drive:front_bag yard.univseg:run/model.univseg runs/first:run '
        'frames/street:photos frames/yard:yard/train/image frames/hall:hall/train/image',
        'first.univseg yard_2.univseg frames/outdoor frames/indoor'),
    'docs/reports.md': Page(
        'runs/first:run runs/second:run', 'runs/first/report.html comparison.html'),
    'docs/figures.md': Page(
        'runs/basic:run runs/full:run runs/supervised_outdoor:run runs/supervised_indoor:run '
        f'runs/camvid_nyuv2_light_120x90/camvid_nyuv2_unlabelled_runs.csv:{OF_AN_EXPERIMENT}',
        'figures/tsne.png figures/panels.png figures/curves.svg '
        'figures/correspondences_full_outdoor_indoor.png figures/cost.png'),
    'docs/command_line.md': Page('photos runs/first:run runs/second:run', ''),
    'docs/runs.md': Page('my.yaml', 'runs/first/model.univseg runs/first/curves.png'),
    'docs/configuration.md': Page('my.yaml', 'runs/b/model.univseg runs/my/model.univseg'),
    'docs/datasets.md': Page('my.yaml', 'small_worlds/indoor/classes.txt'),
    'docs/distillation.md': Page(
        'my.yaml:of_places.yaml bags/drive:front_bag',
        'runs/large/model.univseg runs/small/model.univseg'),
    'docs/label_check.md': Page(
        'my.yaml yard.onnx yard/labelled:yard/train yard.univseg:run/model.univseg '
        'runs/first:run', 'label_check/labels.csv label_check/labels.png'),
    'docs/annotation_tools.md': Page(
        YARD, 'to_correct/labels.txt yard/labelled/label to_correct/tasks.json',
        anew='to_correct'),
}
"""The pages whose commands are run, in this order of their own."""

WITH_PICTURES = 'docs/tutorial.md'
"""The page whose trainings draw pictures, which takes as long as all else of them."""

ONLY_PARSED = {
    'docs/walk.md': 'test_walk.py runs them, with all that stands between them',
    'docs/viewing.md': 'serves a page until Ctrl-C: see viewing/',
    'docs/going_on.md: univseg scenes': 'draws 440 pictures',
    'docs/going_on.md: univseg train places.yaml --run runs/third': 'as the one above it',
    'docs/commands.md': 'examples of --help, each by itself',
    'docs/doctor.md': 'its exit status is that of the machine: see test_doctor.py',
    'docs/experiments.md': 'takes hours',
    'docs/gpus.md': 'for several GPUs or processes',
    'docs/performance.md': 'takes minutes, in processes of its own: see benchmarking/',
    'docs/results/': 'takes hours, of published data sets',
    'docs/labelling.md: univseg import-labels SOURCE': 'no file is called SOURCE',
    'docs/configuration.md: univseg new my yard/': 'as in README.md; my.yaml is there already',
    'docs/datasets.md: univseg data check my.yaml domains.england': 'of a published data set',
    'docs/distillation.md: univseg distill runs/large my.yaml model': 'once more, further down',
    'docs/distillation.md: univseg experiment': 'takes hours, of published data sets',
    'docs/annotation_tools.md: univseg import-labels gtFine': 'of a published data set',
    # The same elsewhere, but for values.
    'README.md: univseg report': 'as in reports.md',
    'docs/command_line.md: univseg import-labels': 'as in labelling.md',
    'docs/command_line.md: univseg prelabel': 'as in labelling.md',
    'docs/command_line.md: univseg rank': 'as in labelling.md',
    'docs/data_loop.md': 'as in README.md and label_check.md',
    'docs/deploy.md': 'exports as those of export.md',
    'docs/distillation.md: univseg export': 'as in tutorial.md',
    'docs/export.md: univseg export runs/first --to onnx --precision int8': 'as in tutorial.md',
    'docs/going_on.md: univseg train': 'as in tutorial.md',
    'docs/ranking.md: univseg rank frames/ --model yard.univseg --domain outdoor --budget':
        'as in labelling.md',
    'docs/runs.md: univseg report': 'as in reports.md',
}
"""Commands that are not run, by what they begin with, and why."""


def why_not(command):
    """Return why a command is not run, or None if it is."""
    return next((reason for beginning, reason in ONLY_PARSED.items()
                 if str(command).startswith(beginning)), None)


@pytest.fixture(scope='session')
def world(once, traced):
    """Return the folder of what the pages name; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        hasten_exports(traced, patch)
        leave_out_pictures(patch)
        return once('documented', write_world)


def hasten_exports(traced, patch):
    """
    Have exports spare the ten seconds in which a network is traced, and try one size on one core.

    All networks are of one make: each gets the graph of the one that was traced, and its own
    weights. That these are its masks, the command itself looks after. The process keeps its
    memory: to release it takes as long as all else.
    """
    def encoder_to_onnx(model, _size):
        graph = onnx.load_from_string(traced)
        encoder = folded(deepcopy(model.encoder).float().eval(), model.spec.encoder)
        weights = {f'network.{name}': value for name, value in encoder.state_dict().items()}
        for tensor in graph.graph.initializer:
            if tensor.name in weights:
                tensor.CopyFrom(onnx.numpy_helper.from_array(
                    weights.pop(tensor.name).numpy(), tensor.name))
        assert not weights
        return graph.SerializeToString()

    patch.setattr(export, 'encoder_to_onnx', encoder_to_onnx)
    patch.setattr(export, 'TRIED_SIZES', export.TRIED_SIZES[:1])
    for name in ('onnxruntime_backend', 'openvino_backend'):
        patch.setattr(f'univseg_core.inference.{name}.cpu_cores', lambda: 1)
    patch.setattr('univseg_core.inference.openvino_backend.release_memory', lambda: None)


def lay_out(given, page, world):
    """Put into this folder what a page has lie there, as far as it exists already."""
    for path, source in given.items():
        found = next((each for each in (Path(source), world / source) if each.exists()), None)
        if not path.exists() and (found or source == 'page'):
            path.parent.mkdir(parents=True, exist_ok=True)
            if source == 'page':
                path.write_text(next(text for text in blocks(ROOT / page, 'yaml')
                                     if 'domains:' in text), encoding='utf-8')
            else:
                (shutil.copytree if found.is_dir() else shutil.copy)(found, path)


def expanded(words):
    """Return the words as a shell makes them of a user whose home is this folder."""
    words = [word.removeprefix('~/') for word in words]
    return [str(path) for word in words
            for path in (sorted(Path().glob(word)) if '*' in word else [word])]


@pytest.mark.parametrize('page', RUN)
def test_the_commands_of_a_page_run_as_they_are_written(page, world, traced, tmp_path,
                                                        monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    hasten_exports(traced, monkeypatch)
    if page != WITH_PICTURES:
        leave_out_pictures(monkeypatch)
    monkeypatch.setattr(worlds, 'write_worlds', partial(
        worlds.write_worlds, width=64, height=48))
    given = {Path(path): source or path for path, _, source in (
        each.partition(':') for each in RUN[page].given.split())}
    lay_out(given, page, world)
    missing = set(map(Path, RUN[page].made.split()))
    assert not any(path.exists() for path in missing)
    for command in all_commands('univseg'):
        if command.page != page or why_not(command):
            continue
        lay_out(given, page, world)
        words = expanded(command.words[1:])
        if words[-1] == RUN[page].anew:  # behind --out
            shutil.rmtree(words[-1], ignore_errors=True)
        if hasattr(parse(words), 'overrides'):
            words += [*LESS, *RUN[page].less]
        with monkeypatch.context() as patch:
            for variable in command.variables:
                patch.setenv(*variable.split('=', 1))
            assert main(words) == 0, f'{command}\n{capsys.readouterr().err}'
        missing = {path for path in missing if not path.exists()}
    assert not missing


def test_every_command_is_run_or_somebody_says_why_not():
    commands = all_commands('univseg')
    assert [str(command) for command in commands
            if command.page not in RUN and not why_not(command)] == []
    for beginning in ONLY_PARSED:
        assert any(str(command).startswith(beginning) for command in commands), beginning
