"""What all tests and doctests share."""

import os
from importlib.util import find_spec

from hypothesis import settings

# The same examples every time, so that a change is judged by what it changed; a busy machine is no failure.
settings.register_profile("secateur", deadline=None, derandomize=True)
# New examples, many more: `pytest --hypothesis-profile search`, before a release or when looking for trouble.
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("secateur")

# Keras takes its backend when it is imported; the tests of the adapter run on any (KERAS_BACKEND=jax pytest tests/...).
os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Doctests of an adapter need its framework.
ADAPTERS = ("keras", "lightning", "onnx", "transformers")
collect_ignore_glob = [f"src/secateur/integrations/{name}*" for name in ADAPTERS if find_spec(name) is None]
