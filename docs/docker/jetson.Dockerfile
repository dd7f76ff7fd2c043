# A Jetson with JetPack 6 (Orin): an exported model by ONNX Runtime on the GPU, by TensorRT or CUDA,
# on ROS 2 Humble, which is that of its Ubuntu 22.04. No PyTorch. On the Jetson, in the clone's top
# folder:
#   docker build -f docs/docker/jetson.Dockerfile -t univseg:jetson .
#   docker run --rm --runtime nvidia --net=host --ipc=host --user $(id -u) --group-add video \
#     -v ~/models:/models univseg:jetson image:=/camera/image_raw device:=cuda
# r36.4 is JetPack 6.1 and 6.2; the image's major version must be the board's.
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0

ENV DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8 ROS_DISTRO=humble
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl \
    && curl -sSLf https://raw.githubusercontent.com/ros/rosdistro/master/ros.key \
       -o /usr/share/keyrings/ros-archive-keyring.gpg \
    && echo "deb [arch=arm64 signed-by=/usr/share/keyrings/ros-archive-keyring.gpg] \
http://packages.ros.org/ros2/ubuntu jammy main" > /etc/apt/sources.list.d/ros2.list \
    && apt-get update && apt-get install -y --no-install-recommends \
       ros-humble-ros-base python3-colcon-common-extensions python3-rosdep python3-venv \
       libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && rosdep init && rosdep update --rosdistro humble

# The environment first: it stays as it is when the code changes. Ubuntu 22.04's OpenCV, NumPy and
# others are too old, so that all come from pip; NVIDIA's own index has ONNX Runtime for JetPack 6.
WORKDIR /ws
COPY constraints-ros.txt src/univseg/
RUN python3 -m venv --system-site-packages venv && touch venv/COLCON_IGNORE \
    && venv/bin/pip install --no-cache-dir -c src/univseg/constraints-ros.txt \
       'numpy>=1.26' 'opencv-python>=4.8' 'pillow>=10' 'pyyaml>=6' 'safetensors>=0.4' 'threadpoolctl>=3.1' 'tqdm>=4.66' \
    && venv/bin/pip install --no-cache-dir -c src/univseg/constraints-ros.txt \
       --extra-index-url https://pypi.jetson-ai-lab.io/jp6/cu126 'onnxruntime-gpu>=1.20'

COPY package.xml setup.py setup.cfg pyproject.toml README.md src/univseg/
COPY resource src/univseg/resource
COPY launch src/univseg/launch
COPY config src/univseg/config
COPY univseg_core src/univseg/univseg_core
COPY univseg_ros src/univseg/univseg_ros
RUN apt-get update \
    && rosdep install -y --from-paths src --ignore-src --dependency-types exec --skip-keys \
       "python3-numpy python3-opencv python3-pil python3-tqdm python3-yaml" \
    && rm -rf /var/lib/apt/lists/* \
    && . /opt/ros/humble/setup.sh && . venv/bin/activate \
    && python3 -m colcon build --packages-select univseg_ros

COPY docs/docker/run.sh /ws/
ENV MODEL=/models/model.onnx HOME=/tmp
ENTRYPOINT ["bash", "/ws/run.sh"]
