"""One self-contained HTML page for a run or a sweep: the verdict in words, then charts, then every number."""

from secateur.lab.report.page import build, build_model, save_picture

__all__ = ["build", "build_model", "save_picture"]
