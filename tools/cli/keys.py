"""`flotilla keys`: create, list and revoke the API keys of the gateway."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Column, Table

from services.common.settings import load
from services.gateway.access.key_file import ALL, Key, KeyFile, KeyFileError, KeyLimits, new_key, read, write
from tools.cli.console import Problem, console
from tools.cli.settings import KeySettings

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys of the gateway. See docs/security.md.")

_SECONDS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}
_LIMITS = ", ".join(KeyLimits.model_fields)

File = Annotated[
    Path | None, typer.Option("--file", help="The key file; default: FLOTILLA_GATEWAY_KEYS_FILE.", show_default=False)
]


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, for people.")],
    *,
    file: File = None,
    model: Annotated[list[str] | None, typer.Option(help="Models it covers, `llama-*`; repeat it for more.")] = None,
    service: Annotated[list[str] | None, typer.Option(help="Services: llm, embedding, asr, vision.")] = None,
    route: Annotated[list[str] | None, typer.Option(help="HTTP paths, gRPC methods: `/v1/*`.")] = None,
    limit: Annotated[list[str] | None, typer.Option(help=f"NAME=NUMBER: {_LIMITS}.")] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: 12h, 30d, 8w, or a date, 2030-12-31.")] = None,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Place in queues; lower goes first.")] = 0,
) -> None:
    """Create a key and print it. It is shown this once; the file keeps a digest. A gateway knows it within a second.

    Example: tools/keys create anna --model 'smollm2-*' --limit tokens_per_day=200000 --expires 90d
    """
    secret, identifier, digest = new_key()
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        key = Key(
            id=identifier,
            name=name,
            digest=digest,
            created=now,
            expires=None if expires is None else _end(expires, now),
            models=tuple(model or ALL),
            services=tuple(service or ALL),
            routes=tuple(route or ALL),
            priority=priority,
            limits=KeyLimits.model_validate(dict(map(_limit, limit or ())), strict=False),
        )
    except ValidationError as error:
        fault = error.errors()[0]
        raise Problem(f"{fault['loc'][-1]}: {fault['msg']}", "flotilla keys create --help") from None
    with _changed(file, missing=KeyFile()) as (path, keys):
        write(path, KeyFile(keys=(*keys, key)))
    typer.echo(f"key {identifier} of {name}, in {path}; the key itself is not kept, so note it now:", err=True)
    print(secret)


@app.command("list")
def list_keys(file: File = None) -> None:
    """Show the keys: who has them, what they cover, their limits.

    Example: tools/keys list
    """
    table = Table(Column("id", no_wrap=True), "name", "covers", "limits", "expires")
    for key in _read(_path(file), None).keys:
        covers = {"models": key.models, "services": key.services, "routes": key.routes}
        scopes = "\n".join(f"{kind} {' '.join(some)}" for kind, some in covers.items() if some != ALL) or "everything"
        limits = "\n".join(f"{name} {amount}" for name, amount in key.limits if amount is not None) or "none"
        table.add_row(*map(escape, (key.id, key.name, scopes, limits, _ends(key))))
    console.print(table)


@app.command("revoke")
def revoke(
    keys: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of keys, as flotilla keys list shows them.")],
    file: File = None,
) -> None:
    """Take keys out of the file. A gateway refuses them within a second; what they have begun is finished.

    Example: tools/keys revoke 0f3a5c7e9b1d
    """
    with _changed(file, missing=None) as (path, known):
        unknown = set(keys) - {key.id for key in known}
        if unknown:
            raise Problem(f"no key {', '.join(sorted(unknown))} in {path}", "flotilla keys list shows the ids")
        write(path, KeyFile(keys=tuple(key for key in known if key.id not in keys)))
    console.print(f"revoked {', '.join(keys)}", markup=False)


@contextmanager
def _changed(file: Path | None, missing: KeyFile | None) -> Iterator[tuple[Path, tuple[Key, ...]]]:
    """Give the keys of the file, and keep other commands from changing it meanwhile."""
    path = _path(file)
    if not path.parent.is_dir():
        raise Problem(f"there is no folder {path.parent}", "create it, or pass another --file")
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield path, _read(path, missing).keys
    finally:
        os.close(folder)


def _path(file: Path | None) -> Path:
    path = file or load(KeySettings).keys_file
    if path is None:
        raise Problem("no key file is named", "set FLOTILLA_GATEWAY_KEYS_FILE, or pass --file keys.json")
    return path.absolute()


def _read(path: Path, missing: KeyFile | None) -> KeyFile:
    if missing is not None and not path.exists():
        return missing
    try:
        return read(path)
    except KeyFileError as error:
        raise Problem(str(error), "flotilla keys create makes one; a broken one has to be mended by hand") from None


def _limit(text: str) -> tuple[str, str]:
    name, equals, amount = text.partition("=")
    if not equals or name not in KeyLimits.model_fields:
        raise Problem(f"--limit {text} is not NAME=NUMBER", f"names: {_LIMITS}")
    return name, amount


def _end(text: str, now: datetime) -> datetime:
    if found := re.fullmatch(r"([0-9]{1,5})([hdw])", text):
        return now + timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        raise Problem(f"--expires {text} is no time", "give 12h, 30d, 8w, or a date such as 2030-12-31") from None
    end = end if end.tzinfo else end.replace(tzinfo=UTC)
    if end <= now:
        raise Problem(f"--expires {text} has passed", "give a time to come")
    return end


def _ends(key: Key) -> str:
    if key.expires is None:
        return "never"
    return f"{key.expires:%Y-%m-%d %H:%M}" + (" (expired)" if key.expires <= datetime.now(UTC) else "")
