"""
What the segmentation node costs, how old its masks are, and what it bears.

  python benchmarks/ros_node.py cost         its own time a frame, beside inference
  python benchmarks/ros_node.py throughput   frames lost in 60 s, inference a no-op
  python benchmarks/ros_node.py age          age of the masks when inference takes long
  python benchmarks/ros_node.py switches     1000 switches of the domain under load
  python benchmarks/ros_node.py storm        1000 changes of anything, with three cameras
  python benchmarks/ros_node.py memory       growth over 10 000 frames
  python benchmarks/ros_node.py malformed    10 000 broken images
  python benchmarks/ros_node.py decoding     reading an image of each encoding
  python benchmarks/ros_node.py profile      images lost with the DDS profile on one side or both
  python benchmarks/ros_node.py player       how steadily image_player sends a folder of JPEGs

Camera, node and consumer are processes of their own. Images are 1280×720 rgb8; camera and node use
the package's Fast DDS profile. The model is a random one of the light encoder, unless inference is
replaced: by nothing, or by a sleep.
"""

import argparse
from pathlib import Path
import sys
import tempfile

from measured_node.decoding import measure_decoding
from measured_node.endurance import measure_malformed, measure_memory, measure_switches
from measured_node.frames import measure_age, measure_cost, measure_throughput
from measured_node.processes import stay_alone
from measured_node.storm import measure_storm
from measured_node.transport import measure_player, measure_profile
import rclpy

MEASUREMENTS = {
    # With how many seconds, switches, frames, images or repetitions.
    'cost': (measure_cost, 20), 'throughput': (measure_throughput, 60), 'age': (measure_age, 10),
    'switches': (measure_switches, 1000), 'storm': (measure_storm, 1000),
    'memory': (measure_memory, 10_000), 'malformed': (measure_malformed, 10_000),
    'decoding': (measure_decoding, 100),
    'profile': (measure_profile, 150), 'player': (measure_player, 20),
}


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=MEASUREMENTS, help='what to measure')
    parser.add_argument('--scale', type=float, default=1.0,
                        help='multiplies how long it takes (default: %(default)s)')
    options = parser.parse_args()
    measure, amount = MEASUREMENTS[options.what]
    stay_alone()
    rclpy.init()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), max(1, round(amount * options.scale)))
    rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
