"""Commands that stand in documents, run as they stand by somebody who types them."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from domains import domain_of_a_test

ROOT = Path(__file__).resolve().parent.parent
RUN = re.compile(r"<!-- run: (.+?) -->\n```sh\n(.*?)```", re.DOTALL)


def blocks(page):
    """Return the commands of each block of a page that is marked ``run: NAME``, by name."""
    return dict(RUN.findall(page.read_text(encoding="utf-8")))


def run(commands, folder, timeout_s=300):
    """Run the lines of a block in a folder and return stdout; every line must succeed."""
    programs = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ROS_DOMAIN_ID": str(domain_of_a_test()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    with subprocess.Popen(
        ["bash", "-euc", f"set -o pipefail\n{commands}\nwait"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as shell:  # fmt: skip
        try:
            out, errors = shell.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)  # the shell and the command that it waits for
            raise
    assert shell.returncode == 0, f"{out[-3000:]}\n{errors[-3000:]}"
    return out
