"""What ``evdistill --version`` shows."""

from __future__ import annotations

import importlib.util
import platform

from evdistill_core.foundation.extras import EXTRAS
from evdistill_core.foundation.version import VERSION


def version_text() -> str:
    """Return version, Python and machine, and which extras are installed, one a line."""
    rows = [f"evdistill {VERSION}", f"Python {platform.python_version()} on {platform.platform()}"]
    for extra, modules in EXTRAS.items():
        missing = [m for m in modules if not _is_installed(m)]
        state = f"not installed (no {', '.join(missing)})" if missing else "installed"
        rows.append(f"extra {extra}: {state}")
    return "\n".join(rows)


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
