"""One self-contained HTML page for a run or a sweep: the verdict in words, then charts, then every number."""

from secateur.lab.report.page import build, save_picture

__all__ = ["build", "save_picture"]
