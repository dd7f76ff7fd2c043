"""
Measure what a model costs a robot before its first mask: time, and memory, by its encoder.

    python benchmarks/start.py --encoders light efficientnet_lite0

Each start is a Python process of its own that imports the package, loads the model file and
segments one image of 480×360. Medians; the encoders take turns.
"""

import argparse
from pathlib import Path
import statistics
import subprocess
import sys
import tempfile

from univseg_core.domains import Domain
from univseg_core.models.encoders import ENCODERS
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.models.universal import ModelSpec, UniversalSegmenter

ROBOT = """
import resource, sys, time
started = time.monotonic()
import numpy as np
from univseg_core.inference.segmenter import Segmenter
imported = time.monotonic()
segmenter = Segmenter.load(sys.argv[1], device='cpu', precision='fp32')
loaded = time.monotonic()
segmenter(np.zeros((360, 480, 3), np.uint8))
done = time.monotonic()
print(imported - started, loaded - imported, done - loaded,
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 'timm' in sys.modules)
"""


def main() -> None:
    """Measure all encoders and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--encoders', nargs='+', default=['light', 'efficientnet_lite0'],
                        choices=list(ENCODERS), metavar='NAME', help='(default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=5, help='(default: %(default)s)')
    options = parser.parse_args()
    domain = Domain.create('place', [f'class {i}' for i in range(11)])
    print('| encoder | import, s | load, s | first mask, s | memory, MB | timm is imported |\n'
          '|---|--:|--:|--:|--:|---|')
    with tempfile.TemporaryDirectory() as folder:
        for name in options.encoders:
            network = UniversalSegmenter(
                ModelSpec(name, stride=ENCODERS[name].strides[0]), [domain])
            save_model(Path(folder) / name, network, ModelCard())
        starts = {name: [] for name in options.encoders}
        for _ in range(options.repeats):
            for name, rows in starts.items():
                output = subprocess.run([sys.executable, '-c', ROBOT, str(Path(folder) / name)],
                                        check=True, capture_output=True, text=True).stdout
                rows.append(output.split())
    for name, rows in starts.items():
        cells = [statistics.median(float(row[i]) for row in rows) for i in range(4)]
        print(f'| {name} | {cells[0]:.1f} | {cells[1]:.1f} | {cells[2]:.2f} | {cells[3]:.0f} | '
              f'{"yes" if rows[0][4] == "True" else "no"} |')


if __name__ == '__main__':
    main()
