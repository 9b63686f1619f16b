"""The reference interpreter and the networks of other tests are read from here and from below."""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
TESTS = Path(__file__).parent.parent
sys.path += [str(TESTS), str(TESTS / "shrink")]
