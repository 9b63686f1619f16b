"""Export to ONNX: a file that ONNX Runtime was seen to run as torch does, or none.

from secateur.integrations import onnx

print(onnx.export(model, example, "model.onnx"))
"""

from __future__ import annotations

import torch

from secateur.vocabulary import MissingExtraError

if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9):
    raise MissingExtraError(f"exporting needs torch 2.9, this is {torch.__version__}: pip install 'secateur[onnx]'")
try:
    import onnx as _onnx  # noqa: F401 - to say, before anything else fails, what is missing
    import onnxruntime as _onnxruntime  # noqa: F401
    import onnxscript as _onnxscript  # noqa: F401
except ImportError as error:
    raise MissingExtraError(
        f"exporting needs onnx, onnxscript and onnxruntime ({error}): pip install 'secateur[onnx]'"
    ) from error

from secateur.integrations.onnx.checking import ExportError
from secateur.integrations.onnx.exporting import Export, export

__all__ = ["Export", "ExportError", "export"]
