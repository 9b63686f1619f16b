"""An adapter whose framework is missing says so, and which extra brings it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest


def said_without(package: str, code: str) -> str:
    """What a fresh process says where a package cannot be imported."""
    code = f"import sys; sys.modules[{package!r}] = None; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("package", "named"), [("keras", "Keras 3"), ("lightning", "Lightning"), ("transformers", "transformers")]
)
def test_a_missing_framework_is_told_with_its_extra(package: str, named: str) -> None:
    said = said_without(package, f"import secateur.integrations.{package}")
    assert said.startswith("secateur.vocabulary.MissingExtraError: ")
    assert f"needs {named}: pip install 'secateur[{package}]'" in said


@pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed (the keras extra)")
def test_summaries_without_tensorboard_name_what_brings_it() -> None:
    said = said_without("tensorboard", "from secateur.integrations import keras as sk; sk.PruningSummaries('logs')")
    assert said.endswith("MissingExtraError: PruningSummaries needs tensorboard: pip install 'secateur[lab]'")
