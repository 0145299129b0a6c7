"""Where and with what a run was made: code version, package versions, device, date."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = ("xgrad_optax", "jax", "jaxlib", "optax", "flax", "numpy", "scipy", "scikit-learn")


def describe_environment() -> dict[str, Any]:
    """Returns what ``meta.json`` says about the machine and the software; no paths of either."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git": _git_state(),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in _PACKAGES},
        "device": _device(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # a checkout that runs without being installed


def _device() -> dict[str, Any]:
    import jax

    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "cpu_cores": os.cpu_count(),
        "machine": platform.machine(),
    }


def _git_state() -> dict[str, Any] | None:
    """Returns commit and dirty flag of the checkout this file is in, None outside of one."""
    try:
        commit = _git("rev-parse", "--verify", "HEAD")
        return {"commit": commit, "dirty": bool(_git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
