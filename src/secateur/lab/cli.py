"""The command line: run, sweep, report, pack, bench and others. Bad input is one clear line and an exit code."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from secateur.lab.data import LabError, MissingDataError
from secateur.lab.flags import (
    COUNTS,
    SHARE,
    Commands,
    Grouped,
    common_flags,
    made_by,
    named,
    network_flags,
    settings_flags,
    settings_of,
)
from secateur.lab.settings import Settings, words
from secateur.vocabulary import SecateurError, first_line

__all__ = ["main", "run_command"]

DEFAULT_METHODS = "gradual,one-shot,one-shot-layerwise,random"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="secateur")
def main() -> None:
    """Prune neural networks and prove what the pruning bought.

    \b
    Examples:
      secateur run                                  digits, gradual pruning to sparsity 0.9
      secateur run --data mnist --data-dir data --sparsity 0.95
      secateur sweep --methods gradual,random --sparsities 0.8,0.9,0.95 --seeds 0,1,2
    """


@main.command(cls=Grouped)
@common_flags
@settings_flags()
@click.option("--again", is_flag=True, help="Throw away what a run wrote into the folder and start over.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def run(config: Path | None, out: Path | None, data_dir: Path | None, again: bool, quiet: bool, **flags: Any) -> None:
    """Train, prune, retrain, measure and report.

    Started again with the same flags, a run that was stopped goes on, and a finished one only prints its result.

    \b
    Examples:
      secateur run
      secateur run --data mnist --method gradual --sparsity 0.9 --epochs 10 --prune-epochs 10
      secateur run --model mypackage.nets:make --data mypackage.data:load --method one-shot
      secateur run --config runs/digits-lenet-300-100-gradual-s0.9-seed0/config.toml --out again
    """
    from secateur.lab import report, runs, show

    settings = settings_of(config, flags)
    folder = out or Path("runs") / f"{_plain(settings.data)}-{_plain(settings.model)}-{_cell(settings)}"
    options = runs.Options(data_dir, again, events=True, bar=not quiet and sys.stderr.isatty())
    result = runs.run(settings, folder, options)
    page = report.build(folder)
    show.run_summary(result)
    click.echo(f"report: {page}")


@main.command(cls=Grouped)
@common_flags
@settings_flags("method", "sparsity", "seed", "bits", "share_epochs", "engine")
@click.option("--methods", default=DEFAULT_METHODS, show_default=True, help="By commas, or all.")
@click.option("--sparsities", default="0.5,0.8,0.9,0.95,0.98", show_default=True, help="By commas.")
@click.option("--seeds", default="0,1,2", show_default=True, help="By commas.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes at a time.")
def sweep(config: Path | None, out: Path | None, data_dir: Path | None, jobs: int, **flags: Any) -> None:
    """Run methods x sparsities x seeds and show the Pareto frontier.

    Cells that are finished are not run again; a sweep may be stopped, continued and extended.

    \b
    Examples:
      secateur sweep --jobs 2
      secateur sweep --data mnist --methods gradual,random --sparsities 0.9,0.95 --seeds 0,1,2 --out sweeps/mnist
    """
    from secateur.lab import report, runs, show, sweeps
    from secateur.lab.methods import TABLE

    named = flags.pop("methods")
    grid = sweeps.Grid(
        tuple(TABLE) if named == "all" else tuple(words(named)),
        tuple(SHARE.convert(word, None, None) for word in words(flags.pop("sparsities"))),
        tuple(_whole(word) for word in words(flags.pop("seeds"))),
    )
    settings = settings_of(config, flags)
    folder = out or Path("sweeps") / f"{_plain(settings.data)}-{_plain(settings.model)}"
    result = sweeps.sweep(settings, grid, folder, runs.Options(data_dir), jobs, click.echo)
    page = report.build(folder) if result["cells"] else None
    show.sweep_summary(result)
    if page:
        click.echo(f"report: {page}")
    if result["failed"]:
        failed = ", ".join(each["cell"] for each in result["failed"])
        raise SecateurError(f"failed: {failed}; the same command tries again")


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Page of a Keras file  [default: beside it, .html]")
def report(path: Path, out: Path | None) -> None:
    """Build the HTML report of a run or sweep folder anew; measure a Keras file and write its page.

    \b
    Examples:
      secateur report runs/digits-lenet-300-100-gradual-s0.9-seed0
      secateur report model.keras --out page.html
    """
    from secateur.lab import keras_models
    from secateur.lab import report as pages
    from secateur.lab.destinations import destination

    if keras_models.is_keras(path):
        page = destination(out, path.with_suffix(".html"), path)
        pages.build_model(keras_models.examine(path), path, page)
    elif out is not None:
        raise LabError(f"the report of the folder {path} is written into it: leave --out out")
    elif not path.is_dir():
        raise LabError(f"{path} is {'no folder' if path.exists() else 'not there'}; name that of a run or a sweep")
    else:
        page = pages.build(path)
    click.echo(f"report: {page}")


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
def inspect(path: Path) -> None:
    """Show what is in a safetensors, mask, packed or Keras file or a run folder: sparsity by tensor, bytes.

    \b
    Examples:
      secateur inspect runs/digits-lenet-300-100-gradual-s0.9-seed0
      secateur inspect model.safetensors
      secateur inspect model.sct
    """
    from secateur.lab import keras_models, show

    if keras_models.is_keras(path):
        click.echo(keras_models.measured(path))
    else:
        show.inspect(path)


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--bits", type=click.IntRange(1, 8), help="Codebooks of so many bits  [default: none, lossless]")
@click.option("--out", type=click.Path(path_type=Path), help="File to write  [default: beside the model, .sct]")
def pack(path: Path, bits: int | None, out: Path | None) -> None:
    """Pack the network of a finished run, or a safetensors or Keras file, without its zeros.

    \b
    Examples:
      secateur pack runs/digits-lenet-300-100-gradual-s0.9-seed0
      secateur pack model.safetensors --bits 5 --out small.sct
    """
    from secateur.lab import keras_models, packing

    packed = (keras_models if keras_models.is_keras(path) else packing).pack(path, bits, out)
    click.echo(f"{packed}\npacked: {packed.path}")


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File to write  [default: NAME.unpacked.safetensors]")
def unpack(path: Path, out: Path | None) -> None:
    """Write the tensors of a packed file as a plain safetensors file, which everyone can load.

    \b
    Example:
      secateur unpack model.sct --out model.safetensors
    """
    from secateur.lab import packing

    click.echo(f"unpacked: {packing.unpack(path, out)}")


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File to write  [default: shrunk.sct in the folder]")
@network_flags
def shrink(path: Path, out: Path | None, model: str | None, shape: tuple[int, int, int], classes: int) -> None:
    """Delete the dead units of a run's or a file's network; write a smaller one with the same outputs.

    \b
    Examples:
      secateur shrink runs/digits-lenet-300-100-neurons-s0.5-seed0
      secateur shrink runs/demo --out small.safetensors
      secateur shrink pruned.safetensors --model resnet-20 --shape 3,32,32
      secateur shrink pruned.keras --out small.keras
    """
    from secateur.lab import keras_models, packing

    if keras_models.is_keras(path):
        if model:
            raise LabError(f"the Keras file {path} knows its network: leave --model out")
        record, file = keras_models.shrink(path, out)
    else:
        record, file = packing.shrink(path, out, made_by(path, model, shape, classes))
    click.echo(f"{record}\nshrunk: {file}")


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File to write  [default: model.onnx in the folder]")
@click.option("--shrunk", is_flag=True, help="Without its dead units  [default: shrunk.onnx in the folder]")
@network_flags
def export(
    path: Path, out: Path | None, shrunk: bool, model: str | None, shape: tuple[int, int, int], classes: int
) -> None:
    """Write the pruned network of a run or a file as an ONNX file, checked against torch in ONNX Runtime.

    \b
    Examples:
      secateur export runs/digits-lenet-300-100-gradual-s0.9-seed0
      secateur export runs/demo --out demo.onnx
      secateur export runs/digits-lenet-300-100-neurons-s0.5-seed0 --shrunk
      secateur export pruned.safetensors --model resnet-20 --shape 3,32,32
    """
    from secateur.lab import exporting

    made = made_by(path, model, shape, classes)
    click.echo(exporting.export_shrunk(path, out, made) if shrunk else exporting.export(path, out, made))


@main.command()
@click.argument("what", metavar="MODEL-OR-FILE")
@network_flags
@click.option("--sparsity", type=SHARE, help="Prune it by magnitude first, all layers but the first.")
@click.option("--scope", type=click.Choice(["layerwise", "global"]), default="layerwise", help="One ranking or many.")
@click.option("--first", is_flag=True, help="Prune the first layer too.")
@click.option("--threads", type=COUNTS, default="1,2", show_default=True, help="Numbers of threads, by commas.")
@click.option("--batch", type=COUNTS, default="1,16", show_default=True, help="Inputs in a call, by commas.")
@click.option("--turns", type=click.IntRange(1), default=20, show_default=True, help="Turns of every runtime.")
@click.option("--compile", "compiled", is_flag=True, help="torch.compile takes part, which takes a minute or two.")
@click.option("--out", multiple=True, type=click.Path(path_type=Path), help="File to write too, .json or .md.")
def bench(what: str, model: str | None, out: tuple[Path, ...], **flags: Any) -> None:
    """Time a network in the engine and in every other runtime that is there, in turns.

    Takes the folder of a run, a packed or safetensors file with its --model, a model's name for new weights, or the
    file of an engine. Outputs are compared with torch in float64 before anything is timed.

    \b
    Examples:
      secateur bench runs/digits-lenet-300-100-gradual-s0.9-seed0
      secateur bench resnet-18 --shape 3,32,32 --sparsity 0.95 --threads 1 --batch 1
      secateur bench model.sct --model lenet-5 --out times.md --out times.json
    """
    from secateur.lab import racing, show, subjects
    from secateur.lab.timing import Pace

    for path in out:
        racing.check_ending(path)
    sparsity = flags["sparsity"]
    if sparsity is None and (given := named("scope", "first")):
        raise LabError(f"{' and '.join(given)} say how --sparsity prunes; give that too, or leave them out")
    thinning = None if sparsity is None else subjects.Thinning(sparsity, flags["scope"], flags["first"])
    subject = subjects.find(what, made_by(Path(what), model, flags["shape"], flags["classes"]), thinning)
    course = racing.Course(flags["threads"], flags["batch"], Pace(turns=flags["turns"]), flags["compiled"])
    result = racing.bench(subject, course)
    show.bench_result(result)
    for path in out:
        racing.write(result, path)
        click.echo(f"written: {path}")
    if not any(row["ms"] for row in result["rows"]):
        raise SecateurError("no runtime could be timed; the table says why")


@main.command()
def methods() -> None:
    """List the pruning methods, a line each.

    \b
    Example:
      secateur methods
    """
    from secateur.lab.methods import TABLE, summary

    for name in TABLE:
        click.echo(f"{name:<24} {summary(name)}")


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise LabError(f"seeds are whole numbers by commas, got {word!r}") from None


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in name)


def _cell(settings: Settings) -> str:
    from secateur.lab.sweeps import cell_name

    return cell_name(settings)


def run_command(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line; every failure is one line on standard error and an exit code.

    2 for usage, 1 for failure, 130 for Ctrl-C. ``SECATEUR_TRACEBACK=1`` lets tracebacks of what nobody foresaw through.
    """
    try:
        main.main(args=arguments, prog_name="secateur", standalone_mode=False)
    except click.exceptions.Abort:
        words = shlex.join(["secateur", *(sys.argv[1:] if arguments is None else arguments)])
        _fail(f"stopped; nothing finished is lost. Go on with: {words}", 130)
    except click.ClickException as error:
        where = f" (see `{error.ctx.command_path} --help`)" if isinstance(error, click.UsageError) and error.ctx else ""
        _fail(error.format_message() + where, error.exit_code)
    except LabError as error:
        _fail(str(error), 1 if isinstance(error, MissingDataError) else 2)
    except SecateurError as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 1)
    except Exception as error:
        if os.environ.get("SECATEUR_TRACEBACK"):
            raise
        told = f"{type(error).__name__}: {first_line(error)}"
        _fail(f"this should not have failed: {told}; SECATEUR_TRACEBACK=1 shows where, for a report of the fault", 1)
    sys.exit(0)


def _fail(text: str, code: int) -> NoReturn:
    click.echo("secateur: " + " ".join(text.split()), err=True)
    sys.exit(code)
