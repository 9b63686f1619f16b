"""From a folder to a page: reads the record, asks for its content, fills the template."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from secateur.files import write_bytes, write_text
from secateur.lab.report import page_model, page_run, page_sweep, words
from secateur.lab.report.reading import read
from secateur.vocabulary import CorruptFileError, MissingExtraError, SecateurError

__all__ = ["build", "build_model", "save_picture"]


def build(folder: Path) -> Path:
    """Write ``report.html`` into a run or sweep folder and return its path.

    The page holds everything it needs; it loads nothing from anywhere.

    Raises:
        SecateurError: the folder holds neither a finished run nor a sweep.
        CorruptFileError: a file in it is damaged.
        MissingExtraError: jinja2, altair or vl-convert-python is missing.
    """
    record = read(folder)
    try:
        content = page_run.content(record) if record.kind == "run" else page_sweep.content(record)
    except (KeyError, TypeError, IndexError) as error:
        raise CorruptFileError(
            f"the {record.kind} in {folder} lacks what its report shows ({type(error).__name__}: {error}): its .json "
            "was damaged, or written by another version"
        ) from error
    return _write(content, record.folder / "report.html")


def build_model(facts: dict[str, Any], model: Path, path: Path) -> Path:
    """Write the page of one measured model to ``path`` and return it.

    Args:
        facts: of :func:`secateur.lab.keras_models.examine`.
        model: where it is.
        path: of the page.

    Raises:
        MissingExtraError: jinja2, altair or vl-convert-python is missing.
    """
    return _write(page_model.content(facts, str(model)), path)


def _write(content: dict[str, Any], path: Path) -> Path:
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("reports need jinja2: pip install 'secateur[lab]'") from error
    charts = [_chart(*each) for each in content.pop("charts")]
    loader = jinja2.PackageLoader("secateur.lab.report", "templates")
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("page.html.j2")
    html = template.render(vega=_vega(), words=words, charts=charts, **content)
    write_text(path, html)
    return path


def save_picture(folder: Path, path: Path, whole: bool = False) -> None:
    """Write the main chart of a run or sweep as an .svg or .png file, on white.

    Args:
        folder: of the run or sweep.
        path: of the picture.
        whole: show a sweep's accuracies down to the lowest, not only those near the dense net's.

    Raises:
        SecateurError: the file's ending is another.
    """
    vl_convert = _vl_convert()
    record = read(folder)
    spec = page_sweep.picture(record, whole) if record.kind == "sweep" else page_run.picture(record)
    spec |= {"width": 560, "background": "white"}
    if path.suffix == ".svg":
        write_text(path, vl_convert.vegalite_to_svg(spec))
    elif path.suffix == ".png":
        write_bytes(path, vl_convert.vegalite_to_png(spec, scale=2))
    else:
        raise SecateurError(f"a picture is .svg or .png, not {path.suffix or path.name!r}")


def _vl_convert() -> Any:
    try:
        import vl_convert
    except ImportError as error:
        raise MissingExtraError("reports need vl-convert-python: pip install 'secateur[lab]'") from error
    return vl_convert


@functools.cache
def _vega() -> str:
    # A closing script tag inside the bundle would end the script element early.
    import altair

    # The runtime of the version that altair writes specifications for ("v6.4.1" -> "6.4").
    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return str(_vl_convert().javascript_bundle(vl_version=version)).replace("</script", "<\\/script")


def _embed(spec: dict[str, Any]) -> str:
    """Return JSON that is safe inside a script element."""
    return json.dumps(spec).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _chart(title: str, spec: dict[str, Any], note: str = "") -> dict[str, Any]:
    parts = spec.get("parts", [spec])
    return {"title": title, "specs": [_embed(part) for part in parts], "note": note}
