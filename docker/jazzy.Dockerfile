# evdistill with ROS 2 Jazzy. Never built: no base image was to be had where this was written.
#   docker build -f docker/jazzy.Dockerfile -t evdistill:jazzy .
#   docker run --rm -it --network host --ipc host evdistill:jazzy ros2 launch evdistill_ros seg.launch.py
FROM ros:jazzy-ros-base-noble

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV NUMBA_CACHE_DIR=/var/cache/evdistill \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

# Versions are those of the distribution's snapshot at the time of the build, as everywhere in ROS.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        python3-venv \
        ros-jazzy-event-camera-msgs \
        ros-jazzy-rosbag2-storage-mcap \
        ros-jazzy-rmw-cyclonedds-cpp \
        ros-jazzy-vision-msgs \
    && rm -rf /var/lib/apt/lists/*

# Libraries that no Ubuntu package has live in an environment that sees those of ROS.
WORKDIR /opt/ws
COPY . src/evdistill
RUN python3 -m venv --system-site-packages /opt/venv \
    && touch /opt/venv/COLCON_IGNORE \
    && /opt/venv/bin/pip install --no-cache-dir "./src/evdistill[view]" \
    && /opt/venv/bin/pip uninstall -y evdistill_ros \
    && . /opt/ros/jazzy/setup.bash \
    && . /opt/venv/bin/activate \
    && python -m colcon build --packages-select evdistill_ros \
    && mkdir -p /var/cache/evdistill
COPY docker/entrypoint.sh /entrypoint.sh

ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "evdistill_ros", "seg.launch.py"]
