"""`tools/images` and `tools/test-containers`."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from services.common.settings import REPOSITORY_ROOT
from tools.cli.__main__ import report
from tools.cli.console import Problem, console
from tools.containers import flow, images
from tools.containers.base_image import stand_in, stand_in_prometheus
from tools.containers.compose import Compose
from tools.containers.engine import engine

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)

StartEngine = Annotated[
    bool, typer.Option("--start-engine", help="Where no Docker engine answers, install (as root) and start one.")
]
StandIn = Annotated[
    bool, typer.Option("--stand-in-base", help="Make the base image from Debian's packages: for want of a registry.")
]


@app.command("images")
def build_images(
    services: Annotated[list[str] | None, typer.Argument(help="Which; all when none is named.")] = None,
    *,
    sbom: Annotated[bool, typer.Option("--sbom", help="Write CycloneDX bills of materials to dist/sbom.")] = False,
    lint: Annotated[bool, typer.Option("--lint", help="Hold the Dockerfiles against hadolint first.")] = False,
    start_engine: StartEngine = False,
    stand_in_base: StandIn = False,
) -> None:
    """Build the images, start each once without models, and print their sizes.

    Examples: `tools/images`, `tools/images embedding gateway --sbom --lint`
    """
    wanted = _known(services, list(images.DOCKERFILES))
    if lint:
        images.lint()
        console.print("hadolint: no findings")
    with ExitStack() as stack:
        command = stack.enter_context(engine(start=start_engine))
        variables = {"BASE_IMAGE": stand_in(may_install=start_engine)} if stand_in_base else {}
        seconds = images.build(Compose(command, variables=variables), wanted)
        for service in wanted:
            images.smoke(service)
            if sbom:
                images.bill_of_materials(service, REPOSITORY_ROOT / "dist" / "sbom")
        images.print_sizes(wanted, seconds)


@app.command("test")
def test(
    services: Annotated[list[str] | None, typer.Argument(help="Which take part; all when none is named.")] = None,
    *,
    start_engine: StartEngine = False,
    stand_in_base: StandIn = False,
    models_from: Annotated[
        Path | None, typer.Option(help="Copy this model store into the volume; nothing is prepared.")
    ] = None,
    wheels: Annotated[
        Path | None, typer.Option(help="Folder of wheels for model preparation beside the package index.")
    ] = None,
    no_build: Annotated[bool, typer.Option("--no-build", help="Take the images that are there.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Kill nothing.")] = False,
    air_gap: Annotated[bool, typer.Option("--air-gap", help="Start again with the network cut (root).")] = False,
    monitoring: Annotated[bool, typer.Option("--monitoring", help="Have Prometheus read the fleet.")] = False,
) -> None:
    """Build, start with compose, ask with the real clients, kill, stop, take down; leave nothing but the images.

    Examples: `tools/test-containers`, `tools/test-containers embedding --models-from ~/.cache/flotilla/models`
    """
    chosen = _known(services, list(flow.MODALITIES))
    plan = flow.Plan(
        chosen, models_from, wheels, build=not no_build, hurt=not quick, air_gap=air_gap, monitoring=monitoring
    )
    with engine(start=start_engine) as command:
        base_images = {}
        if stand_in_base:
            base_images["BASE_IMAGE"] = stand_in(may_install=start_engine)
        if stand_in_base and monitoring:
            base_images["PROMETHEUS_IMAGE"] = stand_in_prometheus(may_install=start_engine)
        flow.run(command, base_images, plan)


def _known(names: list[str] | None, known: list[str]) -> list[str]:
    for name in names or ():
        if name not in known:
            raise Problem(f"there is no {name}", f"choose from: {', '.join(known)}")
    return names or known


def main() -> None:
    """Run a command; exit status 1 after a Problem, 130 after Ctrl-C."""
    try:
        app(prog_name="tools.containers")
    except Problem as problem:
        report(problem)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
