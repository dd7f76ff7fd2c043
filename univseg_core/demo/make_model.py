"""
The model that ships, made anew: two synthetic worlds → a training → the model's two files.

    python -m univseg_core.demo.make_model demo_model

writes demo_model/demo.univseg and demo_model/demo.onnx, as they lie in univseg_core/model_files;
worlds and run are beside them. It takes minutes on a small CPU; the same command goes on where it
was cut short. Seeds decide all that is learned.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
import json
import logging
import os
from pathlib import Path
import sys

from univseg_core.demo.scenes.worlds import write_worlds
from univseg_core.exporting.export import export_model
from univseg_core.exporting.images import to_calibrate, to_compare
from univseg_core.files import new_folder
from univseg_core.inference.model_names import DEMO, RUN_MODEL
from univseg_core.measuring.evaluation import report
from univseg_core.models.model_file import load_model, save_model
from univseg_core.settings.config import load_config, RunConfig
from univseg_core.training.run import train

COMMAND = 'python -m univseg_core.demo.make_model'
"""What the model's card says of its making."""

TRAIN, LABELLED, VALIDATION, SEED = 300, 250, 60, 1
"""
Images of each world. The seed is not the default of `univseg scenes`: the model has learned from
none of the scenes that it draws.
"""

SETTINGS = (
    'model.encoder=light', 'model.width=0.375', 'model.stride=8', 'model.embedding_dim=48',
    'data.image_size=320', 'data.crop_size=192',
    'objective.anchor=0.5',
    'label_embeddings.basis=joint', 'label_embeddings.pretrain_steps=500',
    'training.steps=1000', 'training.learning_rate=0.004', 'training.validate_every=1000',
    'training.accelerator=cpu',
)
"""What differs from train/scenes.yaml: a network of 0.2 million values, and more steps."""

COMPARED = 100
"""Images at most by which the exported file is calibrated, and compared with the other."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the model's files in the folder that is named; return 0."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, metavar='DIR', help='folder to make it in')
    folder = parser.parse_args(arguments).folder.resolve()
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    worlds, run = folder / 'worlds', folder / 'run'
    if not worlds.exists():
        with new_folder(worlds) as unfinished:
            write_worlds(unfinished, train=TRAIN, validation=VALIDATION, labelled=LABELLED,
                         seed=SEED)
    os.environ['UNIVSEG_DATA'] = str(worlds)
    config = load_config('train/scenes.yaml', SETTINGS)
    print(report(train(config, run)))
    write_files(run, config, folder)
    return 0


def write_files(run: Path, config: RunConfig, folder: Path) -> None:
    """Write the two files of a finished run's model, whose card names nothing of this machine."""
    path = folder / f'{DEMO}.univseg'
    network, card = load_model(run / RUN_MODEL)
    told = json.loads(json.dumps(card.training).replace(f'{folder}{os.sep}', ''))
    save_model(path, network, replace(card, training={'made_by': COMMAND, **told}), in_half=True)
    network, card = load_model(path)  # rounded
    settings = str(run / 'config.yaml')
    export_model(network, card, path, path.with_suffix('.onnx'), target='onnx', precision='int8',
                 size=None, samples=to_compare([], settings, network.domains, COMPARED),
                 calibration=to_calibrate([], settings, COMPARED))


if __name__ == '__main__':
    sys.exit(main())
