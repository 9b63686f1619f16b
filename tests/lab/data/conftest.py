"""Folders of the real data sets, and a clean environment for tests that make their own."""

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture
def clean_environment(monkeypatch):
    """No data folder in the environment, and imports that leave no trace."""
    monkeypatch.delenv("SECATEUR_DATA", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("users_"):
            del sys.modules[name]


@pytest.fixture(scope="session")
def real_data():
    """A function from the name of a data set to the folder that holds it; skips where there is none."""

    def folder(name: str) -> Path:
        root = os.environ.get("SECATEUR_DATA")
        if not root:
            pytest.skip(f"SECATEUR_DATA is not set: it should name a folder with {name}/")
        if not (Path(root) / name).is_dir():
            pytest.skip(f"SECATEUR_DATA ({root}) has no folder {name}/")
        return Path(root) / name

    return folder
