"""`cloister context`: the coordinators that a person works with from far away, by name."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privacy.errors import ConfigError
from protocol.console import add_command, answer

if TYPE_CHECKING:
    from server.link.contexts import Context


def add_contexts(commands: Any) -> None:
    """Add them to `cloister`."""
    context = commands.add_parser("context", help="coordinators far away: job and model commands take @NAME as DIR")
    own = context.add_subparsers(required=True, metavar="COMMAND")
    request = add_command(
        own, "request", "make a key, and the request that an operator gives a certificate for", run_request
    )
    request.add_argument("name", help="the name of the context that it will be")
    request.add_argument("out", type=Path, nargs="?", help="where the request is written (default: standard output)")
    add = add_command(own, "add", "enter a coordinator and the certificate that its operator gave", run_add)
    add.add_argument("name", help="what you call it")
    add.add_argument("--address", required=True, help="host:port of the coordinator's link")
    add.add_argument("--certificate", type=Path, required=True, help="what `cloister access grant` wrote")
    add.add_argument("--ca", type=Path, help="the coordinator's authority (default: the last one in --certificate)")
    add.add_argument("--key", type=Path, help="the private key, PKCS #8 in PEM (default: the one of `context request`)")
    add_command(own, "list", "every context, its role, and until when", run_list)
    add_command(own, "use", "make one the context that @ means", run_use).add_argument("name", help="its name")
    renew = add_command(own, "renew", "get the next certificate; commands that use a context do so in time", run_renew)
    renew.add_argument("name", nargs="?", default="", help="its name (default: the one in use)")
    add_command(own, "remove", "forget a context and its key", run_remove).add_argument("name", help="its name")


def add_near_or_far(commands: Any, name: str, about: str, run: Any) -> argparse.ArgumentParser:
    """Add a command with `--json` whose first argument `dir` is a coordinator's folder, or a context in its place."""
    parser = add_command(commands, name, about, run)
    parser.add_argument("dir", help="the coordinator's folder; @NAME: a context, @: the one in use")
    return parser


def run_request(arguments: argparse.Namespace) -> int:
    """Write the request; the key stays."""
    from server.link.contexts import Contexts

    request = Contexts().request(arguments.name)
    if arguments.out is None:
        sys.stdout.write(request.decode())
        return 0
    try:
        with arguments.out.open("xb") as stream:
            stream.write(request)
    except OSError as error:
        raise ConfigError(f"{arguments.out}", expected="a new file", found=error.strerror or "none") from None
    line = f"{arguments.out}: give it to the operator, who runs `cloister access grant`"
    answer(arguments, {"request": str(arguments.out)}, [line])
    return 0


def run_add(arguments: argparse.Namespace) -> int:
    """Enter the context."""
    from server.link.contexts import Contexts, split_chain

    certificate, authority = split_chain(_read(arguments.certificate))
    if arguments.ca is not None:
        authority = _read(arguments.ca)
    if authority is None:
        raise ConfigError("--ca", expected="the coordinator's authority", found="none, nor one in --certificate")
    key = _read(arguments.key) if arguments.key is not None else None
    added = Contexts().add(arguments.name, arguments.address, certificate, authority, key)
    answer(arguments, _values(added, Contexts().current()), [_line(added, Contexts().current())])
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """Every context."""
    from server.link.contexts import Contexts

    contexts = Contexts()
    found, current = contexts.all(), contexts.current()
    lines = [_line(each, current) for each in found] or ["no contexts yet"]
    answer(arguments, {"contexts": [_values(each, current) for each in found]}, lines)
    return 0


def run_use(arguments: argparse.Namespace) -> int:
    """Change the one in use."""
    from server.link.contexts import Contexts

    Contexts().use(arguments.name)
    answer(arguments, {"context": arguments.name}, [f"{arguments.name} is in use: @ means it"])
    return 0


def run_renew(arguments: argparse.Namespace) -> int:
    """Renew over mutual TLS, with a key that is made now."""
    from server.link.contexts import Contexts
    from server.link.renewing import renew

    contexts = Contexts()
    renewed, current = renew(contexts, arguments.name), contexts.current()
    answer(arguments, _values(renewed, current), [_line(renewed, current)])
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    """Forget it."""
    from server.link.contexts import Contexts

    Contexts().remove(arguments.name)
    answer(arguments, {"removed": arguments.name}, [f"{arguments.name} is forgotten, its key too"])
    return 0


def _values(context: Context, current: str) -> dict[str, object]:
    return {
        "name": context.name,
        "address": context.address,
        "role": context.subject.party.value,
        "person": context.subject.name,
        "renews": context.renews,
        "until": context.until,
        "current": context.name == current,
    }


def _line(context: Context, current: str) -> str:
    until = datetime.fromtimestamp(context.until, UTC).strftime("%Y-%m-%d")
    mark = "* " if context.name == current else "  "
    return (
        f"{mark}{context.name}: {context.address}, {context.subject.party.value} {context.subject.name}, until {until}"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}", expected="a PEM file", found=error.strerror or "none") from None
