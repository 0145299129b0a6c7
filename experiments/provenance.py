"""Where and with what a run was made: code version, package versions, device, date."""

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PACKAGES = (
    "xgrad_optax",
    "jax",
    "jaxlib",
    "optax",
    "flax",
    "gymnax",
    "numpy",
    "scipy",
    "scikit-learn",
)


_BUSY = 0.5  # of the cores: other work that timings would show


def describe_environment() -> dict[str, Any]:
    """Returns what ``meta.json`` says about the machine and the software; no paths of either."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git": _git_state(),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in _PACKAGES},
        "device": _device(),
    }


def describe_origin(meta: Mapping[str, Any]) -> str:
    """Returns one sentence for a report: when, on what and with what the run was made."""
    device, versions, git = meta["device"], meta["versions"], meta["git"]
    commit = f", commit {git['commit'][:12]}" if git else ""
    return (
        f"{meta['date']}, {device['count']} x {device['kind']} ({device['platform']}), "
        f"jax {versions['jax']}, optax {versions['optax']}, "
        f"xgrad_optax {versions['xgrad_optax']}{commit}."
    )


def cautions(meta: Mapping[str, Any], timed: bool) -> list[str]:
    """Returns what a reader should know: unsaved code, and of timings a busy machine."""
    found = []
    if meta["git"] and meta["git"]["dirty"]:
        found.append("the working tree has changes that are in no commit.")
    load, cores = meta["device"]["load_average"], meta["device"]["cpu_cores"]
    if timed and load is not None and load > _BUSY * cores:
        found.append(f"the machine was busy at the start: load {load:.1f} on {cores} cores.")
    return found


def _load_average() -> float | None:
    """Returns how many processes ran in the last minute; None where the system does not say."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # a checkout that runs without being installed, or an extra that is not needed


def _device() -> dict[str, Any]:
    import jax

    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "cpu_model": _cpu_model(),
        "cpu_cores": os.cpu_count(),
        "load_average": _load_average(),
        "machine": platform.machine(),
    }


def _cpu_model() -> str | None:
    """Returns what the system calls its processor; None where it does not say."""
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or None
    found = re.search(r"^model name\s*:\s*(.+)$", said, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or None


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
