"""The ``secateur`` command; says which extra to install when the lab's libraries are missing."""

from __future__ import annotations

import sys

__all__ = ["main"]


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
    run_command()


if __name__ == "__main__":
    main()
