"""The files that a container gets are the service, whole."""

import shutil

from process_service import ROOT, started


def test_the_service_runs_from_what_dockerignore_lets_in(tmp_path):
    """A module that is kept out would be missed at the container's start, and nowhere before."""
    app = tmp_path / "app"
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source, copy = ROOT / line[1:], app / line[1:]
            copy.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy)
            else:
                shutil.copy(source, copy)
    production = {"APP_ENV": "production", "JWT_SECRET": "a secret of this test, and long enough"}

    with started(tmp_path, production, root=app) as service:
        document = service.request("GET", "/docs/openapi.json")
        status = service.stop()

    assert document.status_code == 200
    assert document.json()["openapi"].startswith("3.1")
    assert status == 0
