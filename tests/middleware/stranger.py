"""Install a package as its user would, and run the service's side in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def pip_install(package: Path, workplace: Path) -> Path:
    """Build and install *package*, without any network; the folder that is to be on the path."""
    source, site = workplace / "source", workplace / "site"
    shutil.copytree(package, source)  # A build writes beside what it builds.
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*pip, *offline, str(source)], check=True, timeout=120)
    return site


def run(site: Path, *arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python with *site* on its path, beside the service's code."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", site)))
    return subprocess.run(
        [sys.executable, *arguments],
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def chat(site: Path, pieces: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    """Have the service, with the plug-ins of *env*, relay *pieces*; stdout has what the client got."""
    database = {"DATABASE_URL": f"sqlite:///{site.parent}/chat.db"}
    return run(site, HERE / "plugin_process.py", json.dumps(pieces), **database | env)
