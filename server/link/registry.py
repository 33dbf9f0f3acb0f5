"""What the authority remembers: who may hold a certificate, which were issued, who was invited. One SQLite file.

A commit is on disk when it returns (WAL, synchronous FULL), and is seen at once by every other process that has the
file open: a revocation at the command line acts on the running coordinator's next look.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from privacy.errors import ConfigError
from privacy.sealing import PublicIdentity
from protocol.link.certificates import Party, Peer, Subject

SCHEMA_VERSION = 1
KEEP_EXPIRED_S = 30 * 86400.0
"""How long a certificate that has run out is still listed."""
_BUSY_S = 10.0
_SCHEMA = """
CREATE TABLE members (party TEXT, name TEXT, public TEXT, active INTEGER NOT NULL, since REAL NOT NULL,
    PRIMARY KEY (party, name)) STRICT;
CREATE TABLE certificates (serial TEXT PRIMARY KEY, party TEXT NOT NULL, name TEXT NOT NULL, begins REAL NOT NULL,
    ends REAL NOT NULL, revoked REAL) STRICT;
CREATE INDEX certificates_by_holder ON certificates (party, name);
CREATE TABLE invitations (nonce_hash BLOB PRIMARY KEY, site TEXT NOT NULL, expires REAL NOT NULL, state TEXT NOT NULL,
    request BLOB, public BLOB, certificate BLOB) STRICT;
CREATE INDEX invitations_by_site ON invitations (site);
"""


class InvitationState(StrEnum):
    """How far an invitation has come. Only the first two can still become a site."""

    OPEN = "open"
    CLAIMED = "claimed"
    APPROVED = "approved"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A holder that may be given certificates while `active`; `public`: a site's sealing identity."""

    subject: Subject
    public: PublicIdentity | None
    active: bool
    since: float


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A certificate that was issued. Times in seconds since 1970."""

    subject: Subject
    serial: str
    begins: float
    ends: float
    revoked: float | None


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """A one-time token's trace: its nonce is kept as a hash. Claimed: with the site's request and public identity."""

    nonce_hash: bytes
    site: str
    expires: float
    state: InvitationState
    request: bytes | None = None
    public: bytes | None = None
    certificate: bytes | None = None


class Registry:
    """The tables. Every change is one transaction; a look waits for no other process."""

    def __init__(self, path: Path) -> None:
        # SQLite gives the files beside it (-wal, -shm) the mode of this one.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        # Looks have a connection of their own: they do not wait for a change that is being written.
        self._look_lock = threading.Lock()
        self._look = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._prepare(path)

    def _prepare(self, path: Path) -> None:
        with self.change():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif version != SCHEMA_VERSION:
                raise ConfigError(
                    f"{path}",
                    expected=f"version {SCHEMA_VERSION}",
                    found=f"version {version}",
                    remedy="update Cloister",
                )

    def close(self) -> None:
        """Close the file."""
        with self._lock, self._look_lock:
            self._look.close()
            self._db.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """One transaction over several calls: all of it or nothing, and nobody else's in between."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def admit(self, subject: Subject, public: PublicIdentity | None, now: float) -> None:
        """Let a holder have certificates from now on."""
        text = public.to_text() if public is not None else None
        self._run("INSERT OR REPLACE INTO members VALUES (?, ?, ?, 1, ?)", subject.party.value, subject.name, text, now)

    def revoke(self, subject: Subject, now: float) -> int:
        """End a holder's membership, its certificates and its invitations; returns how many certificates ended."""
        holder = (subject.party.value, subject.name)
        with self.change():
            self._run("UPDATE members SET active = 0, since = ? WHERE party = ? AND name = ? AND active", now, *holder)
            if subject.party is Party.SITE:
                self.withdraw(subject.name)
            standing = [each for each in self.certificates(subject) if each.revoked is None]
            # Also those that have run out: a clock that is set back must not wake them up.
            self._run(
                "UPDATE certificates SET revoked = ? WHERE party = ? AND name = ? AND revoked IS NULL", now, *holder
            )
            return sum(each.ends >= now for each in standing)

    def member(self, subject: Subject) -> Member | None:
        """The holder, active or not; None: never admitted."""
        row = self._one(
            "SELECT public, active, since FROM members WHERE party = ? AND name = ?", subject.party.value, subject.name
        )
        return None if row is None else _member(subject, *row)

    def members(self) -> tuple[Member, ...]:
        """All holders, by party and name."""
        rows = self._all("SELECT party, name, public, active, since FROM members ORDER BY party, name")
        return tuple(_member(Subject(Party(row[0]), row[1]), *row[2:]) for row in rows)

    def record(self, issued: Issued) -> None:
        """Enter a certificate; those that ran out long ago are forgotten."""
        holder = (issued.subject.party.value, issued.subject.name)
        with self.change():
            self._run("DELETE FROM certificates WHERE ends < ?", issued.begins - KEEP_EXPIRED_S)
            self._run(
                "INSERT INTO certificates VALUES (?, ?, ?, ?, ?, NULL)",
                *(issued.serial, *holder, issued.begins, issued.ends),
            )

    def is_current(self, peer: Peer, now: float) -> bool:
        """Whether this certificate was issued to this active holder, has begun, not ended, and was not revoked."""
        row = self._looked(
            "SELECT 1 FROM certificates JOIN members USING (party, name) WHERE serial = ? AND party = ? AND name = ? "
            "AND active AND revoked IS NULL AND begins <= ? AND ends >= ?",
            *(peer.serial, peer.subject.party.value, peer.subject.name, now, now),
        )
        return row is not None

    def certificates(self, subject: Subject) -> tuple[Issued, ...]:
        """A holder's certificates, oldest first."""
        rows = self._all(
            "SELECT serial, begins, ends, revoked FROM certificates WHERE party = ? AND name = ? ORDER BY begins",
            *(subject.party.value, subject.name),
        )
        return tuple(Issued(subject=subject, serial=row[0], begins=row[1], ends=row[2], revoked=row[3]) for row in rows)

    def invite(self, invitation: Invitation) -> None:
        """Enter an invitation; earlier ones of the site that came to nothing are withdrawn."""
        with self.change():
            self.withdraw(invitation.site)
            self._run(
                "INSERT INTO invitations VALUES (?, ?, ?, ?, NULL, NULL, NULL)",
                *(invitation.nonce_hash, invitation.site, invitation.expires, invitation.state.value),
            )

    def withdraw(self, site: str) -> None:
        """End a site's invitations; those of before are forgotten, so that a site has at most two rows."""
        with self.change():
            ended = InvitationState.WITHDRAWN.value
            self._run("DELETE FROM invitations WHERE site = ? AND state = ?", site, ended)
            self._run("UPDATE invitations SET state = ? WHERE site = ?", ended, site)

    def update(self, invitation: Invitation) -> None:
        """Replace an invitation's state, request, public identity and certificate."""
        self._run(
            "UPDATE invitations SET state = ?, request = ?, public = ?, certificate = ? WHERE nonce_hash = ?",
            *(invitation.state.value, invitation.request, invitation.public, invitation.certificate),
            invitation.nonce_hash,
        )

    def invitation(self, nonce_hash: bytes) -> Invitation | None:
        """The invitation of a token, or None."""
        row = self._one("SELECT * FROM invitations WHERE nonce_hash = ?", nonce_hash)
        return None if row is None else _invitation(row)

    def invitations(self, site: str | None = None) -> tuple[Invitation, ...]:
        """The invitations of one site, or all, by site."""
        where, values = ("", ()) if site is None else (" WHERE site = ?", (site,))
        rows = self._all(f"SELECT * FROM invitations{where} ORDER BY site, expires", *values)  # noqa: S608
        return tuple(_invitation(row) for row in rows)

    def _run(self, statement: str, *values: object) -> sqlite3.Cursor:
        with self._lock:
            return self._db.execute(statement, values)

    def _looked(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        with self._look_lock:
            row: tuple[Any, ...] | None = self._look.execute(statement, values).fetchone()
            return row

    def _one(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        with self._lock:
            row: tuple[Any, ...] | None = self._db.execute(statement, values).fetchone()
            return row

    def _all(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()


def _member(subject: Subject, public: str | None, active: int, since: float) -> Member:
    identity = None if public is None else PublicIdentity.from_text(public)
    return Member(subject=subject, public=identity, active=bool(active), since=since)


def _invitation(row: tuple[Any, ...]) -> Invitation:
    return Invitation(
        nonce_hash=row[0],
        site=row[1],
        expires=row[2],
        state=InvitationState(row[3]),
        request=row[4],
        public=row[5],
        certificate=row[6],
    )
