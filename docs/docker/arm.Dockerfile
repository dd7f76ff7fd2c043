# A plain 64-bit ARM board (Raspberry Pi 5, RK3588): an exported model by ONNX Runtime on the CPU,
# on ROS 2 Jazzy. No PyTorch. On the board, in the clone's top folder:
#   docker build -f docs/docker/arm.Dockerfile -t univseg:arm .
#   docker run --rm --net=host --ipc=host --user $(id -u) -v ~/models:/models univseg:arm \
#     image:=/camera/image_raw
# Cores are chosen by docker run --cpuset-cpus 4-7, for example the four fast ones of an RK3588.
FROM ros:jazzy-ros-base

RUN apt-get update && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*

# The environment first: it stays as it is when the code changes.
WORKDIR /ws
COPY constraints-ros.txt src/univseg/
RUN python3 -m venv --system-site-packages venv && touch venv/COLCON_IGNORE \
    && venv/bin/pip install --no-cache-dir -c src/univseg/constraints-ros.txt \
       'safetensors>=0.4' 'threadpoolctl>=3.1' 'tqdm>=4.66' 'onnxruntime>=1.20'

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
