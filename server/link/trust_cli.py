"""`cloister site`: who may take part; `cloister access`: what people may do; `cloister log`: what was done.

They work on the coordinator's folder and act at once, whether or not its server runs. `site list` and `log show` make
nothing there, and take a context in its place.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privacy.errors import ConfigError
from protocol.console import add_command, answer, moment
from protocol.link.certificates import MAX_REQUEST_BYTES, Party, Subject
from server.link.context_cli import add_contexts, add_near_or_far

if TYPE_CHECKING:
    from protocol.eventlines import Event
    from server.link.membership import SiteRow

INVITATION_HOURS = 72.0
_ROLES = (Party.OPERATOR, Party.RESEARCHER, Party.AUDITOR)


def add_commands(commands: Any) -> None:
    """Add them to `cloister`, and the contexts of those whom they let in."""
    add_contexts(commands)
    site = commands.add_parser("site", help="invite, approve, list and revoke sites")
    own = site.add_subparsers(required=True, metavar="COMMAND")
    invite = _command(own, "invite", "make a one-time token for a site", run_invite)
    invite.add_argument("name", help="the site's id")
    invite.add_argument("--address", required=True, help="host:port at which the site reaches the enrolment service")
    invite.add_argument(
        "--hours", type=float, default=INVITATION_HOURS, help="how long the token holds, at most a year (default: 72)"
    )
    approve = _command(own, "approve", "let in a site whose fingerprint was compared over the phone", run_approve)
    approve.add_argument("name", help="the site's id")
    approve.add_argument("fingerprint", help="what the site's administrator reads out")
    add_near_or_far(own, "list", "every site and where it stands", run_list)
    revoke = _command(own, "revoke", "shut a site out, at once", run_revoke_site)
    revoke.add_argument("name", help="the site's id")
    access = commands.add_parser("access", help="give people their roles, and take them back")
    people = access.add_subparsers(required=True, metavar="COMMAND")
    grant = _person(people, "grant", "make a certificate of a role for a person's request", run_grant)
    grant.add_argument("request", type=Path, help="the person's certificate request (PKCS #10, P-256), DER or PEM")
    grant.add_argument("out", type=Path, help="where the certificate is written, and the authority's behind it (PEM)")
    _person(people, "revoke", "end a person's role, at once", run_revoke_person)
    log = commands.add_parser("log", help="the coordinator's event log").add_subparsers(
        required=True, metavar="COMMAND"
    )
    shown = add_near_or_far(log, "show", "every event: who asked what, what was approved, what left", run_log_show)
    shown.add_argument("--raw", action="store_true", help="the lines as they were signed: together they are the log")
    verify = _command(log, "verify", "check every line of the event log, offline", run_log_verify)
    verify.add_argument("--head", default="", help="NUMBER:HASH that an earlier `log verify` printed, noted elsewhere")


_command = partial(add_command, folder="the coordinator's folder")


def _person(commands: Any, name: str, about: str, run: Any) -> Any:
    parser = _command(commands, name, about, run)
    parser.add_argument("role", choices=[role.value for role in _ROLES])
    parser.add_argument("name", help="the person's name in the log")
    return parser


def run_invite(arguments: argparse.Namespace) -> int:
    """Print the token: it is secret until it was used."""
    from server.link.membership import invite, open_trust

    token = invite(open_trust(arguments.dir), arguments.name, arguments.address, arguments.hours * 3600)
    values = {"site": token.site, "token": token.to_text(), "expires": token.expires}
    lines = [
        token.to_text(),
        f"for site {token.site} until {_time(token.expires)}; give it to its administrator on a way that you trust",
    ]
    answer(arguments, values, lines)
    return 0


def run_approve(arguments: argparse.Namespace) -> int:
    """Let the site in."""
    from server.link.membership import approve, open_trust

    member = approve(open_trust(arguments.dir), arguments.name, arguments.fingerprint)
    values = {"site": member.subject.name, "active": member.active}
    answer(arguments, values, [f"site {member.subject.name} is in the roster; it fetches its certificate by itself"])
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """Sites, their state, their fingerprints."""
    rows = _sites(arguments.dir)
    values = [
        {"site": row.site, "state": row.state.name.lower(), "fingerprint": row.fingerprint, "until": row.until}
        for row in rows
    ]
    lines = [
        f"{row.site}: {row.state.value}"
        + (f", {row.fingerprint}" if row.fingerprint else "")
        + (f", until {_time(row.until)}" if row.until is not None else "")
        for row in rows
    ]
    answer(arguments, {"sites": values}, lines or ["no sites yet"])
    return 0


def _sites(where: str) -> tuple[SiteRow, ...]:
    if where.startswith("@"):
        from server.link.remote import desk_of

        return desk_of(where[1:]).sites()
    from server.link.logbook import members

    return members(Path(where))


def run_revoke_site(arguments: argparse.Namespace) -> int:
    """Shut the site out."""
    return _revoke(arguments, Subject(Party.SITE, arguments.name))


def run_revoke_person(arguments: argparse.Namespace) -> int:
    """End the role."""
    return _revoke(arguments, Subject(Party(arguments.role), arguments.name))


def _revoke(arguments: argparse.Namespace, subject: Subject) -> int:
    from server.link.membership import open_trust, revoke

    ended = revoke(open_trust(arguments.dir), subject)
    values = {"holder": subject.uri(), "certificates_ended": ended}
    answer(arguments, values, [f"{subject.uri()} is shut out; certificates that ended: {ended}"])
    return 0


def run_grant(arguments: argparse.Namespace) -> int:
    """Write the person's certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from learning.storage import check_place, write_private
    from protocol.link.certificates import certificate_pem, validity
    from server.link.membership import grant, open_trust

    try:
        request = arguments.request.read_bytes()
        if len(request) <= 2 * MAX_REQUEST_BYTES and b"-----BEGIN" in request:
            request = x509.load_pem_x509_csr(request).public_bytes(Encoding.DER)
    except OSError as error:
        raise ConfigError(f"{arguments.request}", expected="a request", found=error.strerror or "none") from None
    except ValueError:
        raise ConfigError(f"{arguments.request}", expected="a request in DER or PEM", found="something else") from None
    check_place(arguments.out, "OUT")  # first: who was let in stays in, whatever fails after
    trust = open_trust(arguments.dir)
    certificate = grant(trust, Subject(Party(arguments.role), arguments.name), request)
    write_private(arguments.out, certificate_pem(certificate) + certificate_pem(trust.authority.certificate))
    until = validity(certificate)[1]
    answer(arguments, {"certificate": str(arguments.out), "until": until}, [f"{arguments.out}, until {_time(until)}"])
    return 0


def run_log_show(arguments: argparse.Namespace) -> int:
    """The events, oldest first; what is shown is not verified here."""
    from protocol.eventlines import Line

    for number, data in enumerate(_log_lines(arguments.dir), 1):
        event = Line.from_bytes(data, f"the event log, line {number}").event
        if arguments.raw:
            sys.stdout.write(data.decode("ascii"))
        elif arguments.json:
            sys.stdout.write(json.dumps(asdict(event), ensure_ascii=False) + "\n")
        else:
            sys.stdout.write(f"{_event_line(event)}\n")
    return 0


def _log_lines(where: str) -> Iterator[bytes]:
    if where.startswith("@"):
        from server.link.remote import desk_of

        yield from desk_of(where[1:]).log_lines()
        return
    from server.coordinator import open_coordinator
    from server.link.logbook import log_page

    home, at = Path(where), 0
    open_coordinator(home)  # says what is no coordinator's folder
    while page := log_page(home, at):
        yield from page
        at += sum(map(len, page))


def _event_line(event: Event) -> str:
    """For a person: what a caller or another coordinator has put into an event moves no cursor and begins no line."""
    from protocol.eventlines import one_line

    actor, action, subject = (one_line(word) for word in (event.actor, event.action, event.subject))
    details = " ".join(f"{one_line(name)}={one_line(str(value))}" for name, value in event.details.items())
    return f"{event.seq} {moment(event.time)} {actor}: {action} {subject} {details}".rstrip()


def run_log_verify(arguments: argparse.Namespace) -> int:
    """Verify the log; print its head, to be noted elsewhere."""
    from protocol.eventlog import Head, verify
    from server.coordinator import open_coordinator
    from server.link.membership import EVENTS_FILE

    noted = Head.from_text(arguments.head) if arguments.head else None
    public = open_coordinator(arguments.dir).identity.public()
    verified = verify(arguments.dir / EVENTS_FILE, public, noted)
    answer(arguments, verified.values(), verified.lines())
    return 0


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
