# evdistill without ROS, on the CPU. Never built: no base image was to be had where this was written.
#   docker build -f docker/cpu.Dockerfile -t evdistill .
#   docker run --rm -v "$PWD/out:/work/out" evdistill run /opt/evdistill/demo/davis346_street.mcap -o out/street
FROM python:3.12-slim-bookworm

# The kernels that numba compiles are kept: mount a volume here and no start compiles them again.
ENV NUMBA_CACHE_DIR=/var/cache/evdistill \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

# What pip installs first changes least: the layer of the libraries stays when the code changes.
WORKDIR /opt/evdistill
COPY setup.py setup.cfg pyproject.toml package.xml README.md LICENSE THIRD_PARTY.md constraints.txt ./
COPY resource resource
COPY launch launch
COPY rviz rviz
COPY config config
COPY evdistill_core evdistill_core
COPY evdistill_ros evdistill_ros
RUN pip install --no-cache-dir -c constraints.txt ".[robot,view]" \
    && mkdir -p /var/cache/evdistill /work/out \
    && useradd --create-home --uid 1000 evdistill \
    && chown -R evdistill:evdistill /var/cache/evdistill /work
COPY demo demo

# A number: hosts and Kubernetes know no names of users inside.
USER 1000
WORKDIR /work
ENTRYPOINT ["evdistill"]
CMD ["--help"]
