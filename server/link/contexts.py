"""Named coordinators of a person: where each is reached, and the certificate that is shown there.

~/.config/cloister/contexts/NAME/context.json       address
                                 pair.pem           the person's private key (0600), made here, and its certificate:
                                                    one file, so that they change together
                                 authority.pem      the authority that the coordinator must be of
~/.config/cloister/context                          the name of the one in use

`CLOISTER_CONFIG` names another folder than ~/.config/cloister.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from learning.storage import make_private_dir, write_dir, write_json, write_private
from privacy.errors import ConfigError, SealError
from protocol.link.certificates import (
    Party,
    Subject,
    certificate_pem,
    check_issued,
    key_bytes,
    key_pem,
    make_request,
    new_link_key,
    read_certificate,
    read_key,
    renewal_time,
    subject_of,
    validity,
)
from protocol.link.tls import Tls
from protocol.link.token import check_address

FOLDER_VARIABLE = "CLOISTER_CONFIG"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PAIR, _AUTHORITY, _ABOUT, _CURRENT = "pair.pem", "authority.pem", "context.json", "context"
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\s*", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Context:
    """One coordinator as one person sees it.

    `renews`, `until`: from when on its certificate is renewed, and its end, seconds since 1970.
    """

    name: str
    address: str
    subject: Subject
    renews: float
    until: float


class Contexts:
    """The contexts of this user. `folder`: None for the usual one."""

    def __init__(self, folder: Path | None = None) -> None:
        named = os.environ.get(FOLDER_VARIABLE)
        self._home = folder or (Path(named) if named else Path.home() / ".config" / "cloister")

    def request(self, name: str) -> bytes:
        """A certificate request (PEM) for a key that is made here and stays here; asked again, for the same key.

        Raises: ConfigError for a name that no context may have.
        """
        path = self._new_key(name)
        if not path.exists():
            make_private_dir(path.parent)
            write_private(path, key_pem(new_link_key()))
        request = x509.load_der_x509_csr(make_request(read_key(path.read_bytes())))
        from cryptography.hazmat.primitives.serialization import Encoding

        return request.public_bytes(Encoding.PEM)

    def add(self, name: str, address: str, certificate: bytes, authority: bytes, key: bytes | None = None) -> Context:
        """Enter a context: whole or not at all. `certificate`, `authority`, `key`: PEM; no key: the one of `request`.

        Raises: ConfigError for a name that is there, an address that is none, or a certificate of another key;
        SealError for one that the authority did not give to a person.
        """
        check_address(address)
        folder, made = self._folder(name), self._new_key(name)
        if folder.exists():
            raise ConfigError(f"context {name}", expected="a new name", found="one that is there")
        if key is None and not made.exists():
            raise ConfigError(f"context {name}", expected="its key", found="none", remedy="`cloister context request`")
        private, own, root = (
            read_key(key or made.read_bytes()),
            read_certificate(certificate),
            read_certificate(authority),
        )
        subject = _person(own, root)
        public = own.public_key()
        if key_bytes(private.public_key()) != key_bytes(public):  # type: ignore[arg-type]
            raise ConfigError(f"context {name}", expected="a certificate for this key", found="one for another key")

        def fill(target: Path) -> None:
            write_private(target / _PAIR, key_pem(private) + certificate_pem(own))
            write_private(target / _AUTHORITY, certificate_pem(root))
            write_json(target / _ABOUT, {"address": address})

        make_private_dir(folder.parent)
        write_dir(folder, fill)
        made.unlink(missing_ok=True)
        if not self.current():
            self.use(name)
        return _context(name, address, own, subject)

    def keep(self, context: Context, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> Context:
        """Put a new key and its certificate in the place of a context's, both or neither; on disk when this returns.

        Raises: SealError for one that the context's authority did not give to this person for this key; ConfigError
        when the context is gone.
        """
        _, tls = self.open(context.name)
        check_issued(certificate, read_certificate(tls.authority), context.subject)
        if key_bytes(key.public_key()) != key_bytes(certificate.public_key()):  # type: ignore[arg-type]
            raise SealError(
                f"context {context.name}", expected="a certificate for the key made here", found="another's"
            )
        write_private(self._folder(context.name) / _PAIR, key_pem(key) + certificate_pem(certificate))
        return _context(context.name, context.address, certificate, context.subject)

    def all(self) -> list[Context]:
        """Every context, by name. Raises: ConfigError when a file is damaged."""
        found = (self._home / "contexts").glob(f"*/{_ABOUT}")
        return [self.open(path.parent.name)[0] for path in sorted(found)]

    def current(self) -> str:
        """The name of the one in use; empty: none."""
        path = self._home / _CURRENT
        return path.read_text(encoding="utf-8").strip() if path.exists() else ""

    def use(self, name: str) -> None:
        """Make a context the one in use. Raises: ConfigError when there is none of that name."""
        self.open(name)
        write_private(self._home / _CURRENT, f"{name}\n".encode())

    def remove(self, name: str) -> None:
        """Forget a context and its key. Raises: ConfigError when there is none of that name."""
        self.open(name)
        shutil.rmtree(self._folder(name))
        if self.current() == name:
            (self._home / _CURRENT).unlink()

    def open(self, name: str = "") -> tuple[Context, Tls]:
        """A context, or the one in use, with SECRET material for its connection. Raises: ConfigError."""
        name = name or self.current()
        if not name:
            raise ConfigError("the context", expected="one in use", found="none", remedy="`cloister context use NAME`")
        folder = self._folder(name)
        try:
            address = str(json.loads((folder / _ABOUT).read_text(encoding="utf-8"))["address"])
            pair, root = ((folder / each).read_bytes() for each in (_PAIR, _AUTHORITY))
        except OSError:
            raise ConfigError(
                f"context {name}", expected="one of `cloister context list`", found="none of that name"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{folder}", expected="a context", found="a damaged one", remedy="add it again") from None
        key, certificate = read_key(pair), read_certificate(pair)
        about = _context(name, address, certificate, subject_of(certificate))
        return about, Tls(authority=root, chain=certificate_pem(certificate), key=key_pem(key))

    def _folder(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ConfigError("a context's name", expected="letters, digits, '.', '_', '-'", found="another")
        return self._home / "contexts" / name

    def _new_key(self, name: str) -> Path:
        self._folder(name)
        return self._home / "requests" / f"{name}.pem"


def _context(name: str, address: str, certificate: x509.Certificate, subject: Subject) -> Context:
    renews, until = renewal_time(certificate), validity(certificate)[1]
    return Context(name=name, address=address, subject=subject, renews=renews, until=until)


def _person(certificate: x509.Certificate, authority: x509.Certificate) -> Subject:
    subject = subject_of(certificate)
    if subject.party in (Party.SITE, Party.COORDINATOR):
        raise ConfigError("the certificate", expected="a person's", found=subject.uri())
    check_issued(certificate, authority, subject)
    return subject


def split_chain(pem: bytes) -> tuple[bytes, bytes | None]:
    """The first certificate of a file, and the last where there are several: the authority's."""
    found = _PEM.findall(pem)
    return (found[0] if found else pem), (found[-1] if len(found) > 1 else None)
