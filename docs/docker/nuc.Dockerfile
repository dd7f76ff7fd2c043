# A PC without an NVIDIA GPU (NUC, industrial PC): an exported model by OpenVINO or ONNX Runtime,
# whichever is faster there, on ROS 2 Jazzy. No PyTorch. In the clone's top folder:
#   docker build -f docs/docker/nuc.Dockerfile -t univseg:nuc .
#   docker run --rm --net=host --ipc=host --user $(id -u) -v ~/models:/models univseg:nuc \
#     image:=/camera/image_raw
FROM ros:jazzy-ros-base

RUN apt-get update && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*

# The environment first: it stays as it is when the code changes.
WORKDIR /ws
COPY constraints-ros.txt src/univseg/
RUN python3 -m venv --system-site-packages venv && touch venv/COLCON_IGNORE \
    && venv/bin/pip install --no-cache-dir -c src/univseg/constraints-ros.txt \
       'safetensors>=0.4' 'threadpoolctl>=3.1' 'tqdm>=4.66' 'onnxruntime>=1.20' 'openvino>=2024.6'

# Intel's GPU (device:=gpu) needs this, and docker run --device /dev/dri --group-add GROUP, where
# GROUP is that of /dev/dri/renderD128 (stat -c %g /dev/dri/renderD128).
#   RUN apt-get update && apt-get install -y --no-install-recommends intel-opencl-icd

COPY package.xml setup.py setup.cfg pyproject.toml README.md src/univseg/
COPY resource src/univseg/resource
COPY launch src/univseg/launch
COPY config src/univseg/config
COPY univseg_core src/univseg/univseg_core
COPY univseg_ros src/univseg/univseg_ros
RUN apt-get update \
    && rosdep install -y --from-paths src --ignore-src --dependency-types exec \
    && rm -rf /var/lib/apt/lists/* \
    && . /opt/ros/jazzy/setup.sh && . venv/bin/activate \
    && python3 -m colcon build --packages-select univseg_ros

COPY docs/docker/run.sh /ws/
ENV MODEL=/models/model.onnx HOME=/tmp
ENTRYPOINT ["bash", "/ws/run.sh"]
