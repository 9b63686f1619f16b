"""The ``secateur`` command; says which extra to install when the lab's libraries are missing."""

from __future__ import annotations

import io
import sys
import warnings

__all__ = ["main"]

_USUAL = warnings.formatwarning


def main() -> None:
    """Run the command line."""
    try:
        import click  # noqa: F401
    except ImportError:
        sys.stderr.write("secateur: the command line needs more libraries: pip install 'secateur[lab]'\n")
        sys.exit(1)
    try:
        from secateur.lab.cli import run_command
    except KeyboardInterrupt:  # importing takes a moment
        sys.stderr.write("secateur: stopped before it began\n")
        sys.exit(130)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where it cannot show a sign, as in ASCII
    warnings.formatwarning = _warning
    run_command()


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning as a user reads it: ours without the line of our code."""
    from secateur.vocabulary import SecateurWarning

    if issubclass(category, SecateurWarning):
        return f"secateur: warning: {message}\n"
    return _USUAL(message, category, filename, lineno, line)


if __name__ == "__main__":
    main()
