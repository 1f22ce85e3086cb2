"""The `flotilla` command: puts the subcommands together and turns every failure into a line with a next step."""

import errno
import sys

import typer

from tools.cli import bench, down, engines, keys, models, profiles, status, up
from tools.cli.console import Problem, console

app = typer.Typer(
    name="flotilla",
    help="Flotilla: self-hosted model endpoints on one machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)
app.command()(up.up)
app.command()(down.down)
app.command()(status.status)
app.add_typer(models.app, name="models")
app.command()(profiles.profiles)
app.add_typer(engines.app, name="engines")
app.add_typer(keys.app, name="keys")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run a subcommand; exit status 1 after a Problem, 130 after Ctrl-C."""
    try:
        app(prog_name="flotilla")
    except Problem as problem:
        report(problem)
        sys.exit(1)
    except OSError as error:
        report(_storage_problem(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def report(problem: Problem) -> None:
    """Print a Problem as one red line and its next step."""
    console.print(f"error: {problem.message}", style="red", markup=False)
    if problem.next_step:
        console.print(f"  next: {problem.next_step}", markup=False)


def _storage_problem(error: OSError) -> Problem:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem(f"the disk is full{where}", "free some space, then run this again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Problem(
            f"not allowed to write{where}", "set FLOTILLA_STATE_DIR and FLOTILLA_MODEL_STORE to folders you own"
        )
    return Problem(
        f"{error.strerror or error}{where}", "set FLOTILLA_LOG_LEVEL=DEBUG and look at the logs of the services"
    )


if __name__ == "__main__":
    main()
