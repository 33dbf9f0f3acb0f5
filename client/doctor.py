"""What may keep a site from taking part, found before a run does: each finding with what to do about it.

Judging is pure (`judge_*`: facts in, findings out); `examine` gathers the facts. Of the data sets only the first row is
read, for the names of its columns. Nothing is changed, and nothing but greetings is sent.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from cryptography import x509

from client.config import (
    COORDINATOR_FILE,
    IDENTITY_FILE,
    KEYS_DIR,
    SECRET_FILE,
    STATE_DIR,
    DataSection,
    SiteConfig,
    read_site,
)
from client.keystore import (
    LOST,
    PASSPHRASE_FILE,
    PUBLIC_FILE,
    SYSTEMD_NAME,
    is_locked,
    passphrase,
    read_public,
    read_secret,
)
from client.link.dial import CLOCK_REMEDY, Busy, clock_difference, likely_clock, shown_certificate
from client.link.membership import Membership, is_member, read_membership
from client.roster import approved, brings, waiting
from client.site import pinned_coordinator
from learning.rows import Columns, Source
from privacy.errors import CloisterError, DataError
from privacy.sealing import Identity, PublicIdentity
from protocol.job import NO_PROFILE, ColumnsSection
from protocol.link.certificates import Party, Subject, check_issued, renewal_time, validity

CLOCK_S = 60.0
"""Certificates allow for five minutes (`CLOCK_TOLERANCE_S`): a clock that drifts is found before that."""
DISK_BYTES = 4 << 30
"""A BERT-base of 440 MB: the model, the update, both sealed, and half as much again for tokens."""
MEMORY_BYTES = 3 << 30
_CONNECT_S = 10.0
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WAIT_FOR_RENEWAL = "start the daemon: it renews by the site's signing key"
_ENDED = f"{_WAIT_FOR_RENEWAL}; if it runs, compare this machine's clock with the coordinator's"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at. `mend`: what to do when it is not ok; when it is, something to think about."""

    what: str
    ok: bool
    found: str
    mend: str = ""

    def line(self) -> str:
        """For a person: one line."""
        return f"{'ok  ' if self.ok else 'MEND'} {self.what}: {self.found}{f' -> {self.mend}' if self.mend else ''}"

    def values(self) -> dict[str, object]:
        """For a script."""
        return asdict(self)


def judge_clock(difference_s: float, uncertainty_s: float) -> Finding:
    """`difference_s`: this clock less the coordinator's; `uncertainty_s`: half the time that the question took."""
    ok = abs(difference_s) <= CLOCK_S + uncertainty_s
    found = f"{abs(difference_s):.1f} s {'ahead of' if difference_s > 0 else 'behind'} the coordinator's"
    return Finding(what="clock", ok=ok, found=found, mend="" if ok else CLOCK_REMEDY)


def judge_certificate(certificate: x509.Certificate, now: float) -> Finding:
    """The life of the site's own certificate."""
    start, end = validity(certificate)
    what = "certificate"
    if now < start:
        mend = CLOCK_REMEDY
        return Finding(what=what, ok=False, found=f"begins {(start - now) / 3600:.1f} h from now", mend=mend)
    if now > end:
        found = f"ran out {(now - end) / 3600:.1f} h ago"
        return Finding(what=what, ok=False, found=found, mend=_ENDED)
    found, late = f"holds {(end - now) / 3600:.1f} h more", now > renewal_time(certificate) + (end - start) / 6
    return Finding(what=what, ok=not late, found=found, mend=_WAIT_FOR_RENEWAL if late else "")


def judge_server(shown: x509.Certificate, authority: x509.Certificate, now: float) -> Iterator[Finding]:
    """Whether the server at the address is the coordinator that was joined, and current by this machine's clock."""
    try:
        check_issued(shown, authority, Subject(Party.COORDINATOR))
    except CloisterError as error:
        mend = "somebody stands between, or the address is wrong: call the operator"
        yield Finding(what="TLS", ok=False, found=str(error), mend=mend)
        return
    yield Finding(what="TLS", ok=True, found="the coordinator's certificate, by the pinned authority")
    start, end = validity(shown)
    if not start <= now <= end:
        away = start - now if now < start else now - end
        where = "behind" if now < start else "ahead"
        found = f"by the coordinator's certificate this clock is at least {away / 3600:.1f} h {where}"
        yield Finding(what="clock", ok=False, found=found, mend=CLOCK_REMEDY)


def judge_disk(free: int, needed: int = DISK_BYTES) -> Finding:
    """Room for the site's state, in bytes."""
    mend = f"make {_gigabytes(needed - free)} more"
    return Finding(
        what="disk", ok=free >= needed, found=f"{_gigabytes(free)} free", mend="" if free >= needed else mend
    )


def judge_memory(available: int, needed: int = MEMORY_BYTES) -> Finding:
    """Memory that could be had now, in bytes."""
    ok = available >= needed
    mend = f"a BERT-base needs about {_gigabytes(needed)}; end other programs, or take jobs with smaller models"
    return Finding(what="memory", ok=ok, found=f"{_gigabytes(available)} available", mend="" if ok else mend)


def judge_gpus(names: Sequence[str]) -> Finding:
    """No GPU is no fault: the training runs on the CPU."""
    found = ", ".join(names) if names else "none; trainings run on the CPU"
    return Finding(what="GPU", ok=True, found=found)


def judge_grants(config: SiteConfig) -> Iterator[Finding]:
    """Whether `site.toml` names a data set for jobs; what it grants beyond the safe choice is pointed out."""
    ok = config.accept.data in config.data
    found = f"jobs are trained on {config.accept.data}" + ("" if ok else ", and there is no such data set")
    yield Finding(what="grants", ok=ok, found=found, mend="" if ok else f"add [data.{config.accept.data}]")
    if config.accept.without_privacy:
        mend = "accept.without_privacy = false, unless this is meant"
        yield Finding(what="grants", ok=True, found="jobs may train without differential privacy", mend=mend)
    if config.anonymisation.profile == NO_PROFILE:
        mend = "name a profile in [anonymisation], unless this is meant"
        yield Finding(what="grants", ok=True, found="text may pass as it is", mend=mend)


def examine_data(home: Path, config: SiteConfig) -> Iterator[Finding]:
    """Whether each data set can be opened and has the columns that the site names."""
    for name, section in config.data.items():
        what = f"data set {name}"
        try:
            columns = _columns(home / section.path, section)
        except CloisterError as error:
            yield Finding(what=what, ok=False, found=str(error), mend=f"mend the file, or [data.{name}] in site.toml")
            continue
        yield Finding(what=what, ok=True, found=f"columns {', '.join(columns)}")


def examine_modes(home: Path) -> Iterator[Finding]:
    """Whether others on this machine may read what is the site's alone."""
    paths = [home / KEYS_DIR, home / STATE_DIR, *sorted((home / KEYS_DIR).glob("*"))]
    wide = [path for path in paths if path.exists() and path.stat().st_mode & _OTHERS]
    for path in wide:
        mode = stat.S_IMODE(path.stat().st_mode)
        mend = f"chmod {'700' if path.is_dir() else '600'} {path}"
        yield Finding(what="modes", ok=False, found=f"{path.relative_to(home)} has {mode:o}", mend=mend)
    if not wide:
        yield Finding(what="modes", ok=True, found="keys and state are for their owner alone")


def examine_keys(home: Path) -> Iterator[Finding]:
    """Whether the private keys are there and can be read; locked ones are no fault, where nothing here opens them."""
    told = False
    for name in (IDENTITY_FILE, SECRET_FILE):
        path = home / KEYS_DIR / name
        try:
            if is_locked(path) and passphrase() is None:
                mend = f"the daemon needs the passphrase: {PASSPHRASE_FILE}, or systemd's {SYSTEMD_NAME}"
                found = f"{name} is locked, and this process was given no passphrase"
                yield Finding(what="keys", ok=True, found=found, mend=mend)
                told = True
                continue
            secret = read_secret(path, LOST)
            if name == IDENTITY_FILE:
                Identity.from_bytes(secret)
        except CloisterError as error:
            yield _fault("keys", error, LOST)
            told = True
    if not told:
        yield Finding(what="keys", ok=True, found=f"{IDENTITY_FILE} and {SECRET_FILE} can be read")


def examine_roster(home: Path, config: SiteConfig) -> Iterator[Finding]:
    """Whether a roster is approved under this site's present keys, and whether one waits for approval."""
    what, approve = "roster", "`cloister-site roster show`; compare fingerprints, then `cloister-site roster approve`"
    try:
        current, offer, public = approved(home), waiting(home), _public(home)
    except CloisterError as error:
        yield _fault(what, error, approve)
        return
    if offer is not None and (new := brings(current, offer)):
        yield Finding(what=what, ok=False, found=f"waits for approval: {new}", mend=approve)
        return
    if current is None:
        mend = "jobs with secure aggregation are declined until the coordinator has proposed one and it is approved"
        yield Finding(what=what, ok=True, found="none approved, none proposed", mend=mend)
    elif public is not None and current.sites.get(config.id) != public:
        mend = f"have the operator enter {PUBLIC_FILE}, then `cloister-site roster approve`"
        yield Finding(what=what, ok=False, found="the approved one has other keys for this site", mend=mend)
    else:
        yield Finding(what=what, ok=True, found=f"{len(current.sites)} sites approved, epoch {current.epoch}")


def _public(home: Path) -> PublicIdentity | None:
    """The site's public keys, which a lock leaves open; None where they were not written."""
    path = home / KEYS_DIR / PUBLIC_FILE
    remedy = "`cloister-site keys rotate` writes it anew, with new keys"
    return read_public(path, remedy, remedy) if path.exists() else None


def examine_link(home: Path, clock: Callable[[], float]) -> Iterator[Finding]:
    """Membership, address, TLS and clock, as far as each can be seen; a clock that is off does not hide the rest."""
    if not is_member(home):
        yield _without_membership(home)
        return
    try:
        membership = read_membership(home)
    except CloisterError as error:
        yield Finding(what="membership", ok=False, found=str(error), mend="ask the operator for a token and join again")
        return
    yield Finding(what="membership", ok=True, found=f"site {membership.site} at {membership.link_address}")
    yield judge_certificate(membership.certificate, clock())
    for address in dict.fromkeys((membership.link_address, membership.enrolment_address)):
        yield from _examine_address(address, membership, clock())
    yield from _examine_clock(membership, clock)


def _without_membership(home: Path) -> Finding:
    """No fault where a coordinator is pinned: Flower's own SuperNode may host the site (docs/flower.md)."""
    what, join = "membership", f"`cloister-site join {home} TOKEN`"
    if not (home / KEYS_DIR / COORDINATOR_FILE).exists():
        return Finding(what=what, ok=False, found="none, and no pinned coordinator", mend=join)
    try:
        pinned = pinned_coordinator(home).fingerprint()
    except CloisterError as error:
        return _fault(what, error, join)
    found = f"none; a pinned coordinator, {pinned}"
    return Finding(what=what, ok=True, found=found, mend=f"{join}, unless Flower hosts the site")


def _examine_address(address: str, membership: Membership, now: float) -> Iterator[Finding]:
    try:
        shown = shown_certificate(address, _CONNECT_S)
    except CloisterError as error:
        mend = "check address, network and firewall; sites connect outwards only"
        yield Finding(what=f"address {address}", ok=False, found=str(error), mend=mend)
        return
    yield Finding(what=f"address {address}", ok=True, found="answers")
    yield from judge_server(shown, membership.authority, now)


def _examine_clock(membership: Membership, clock: Callable[[], float]) -> Iterator[Finding]:
    """By the coordinator's answer; where none can be had, the findings before this one have said why."""
    address = membership.enrolment_address
    try:
        difference_s, uncertainty_s = clock_difference(address, membership.authority, membership.site, clock)
    except Busy:
        return
    except CloisterError as error:
        mend = likely_clock(str(error)) or "call the operator"
        yield Finding(what="enrolment", ok=False, found=str(error), mend=mend)
        return
    yield judge_clock(difference_s, uncertainty_s)


def examine(home: Path, clock: Callable[[], float]) -> list[Finding]:
    """Everything, in the order in which it is to be mended. `clock`: seconds since 1970."""
    try:
        config = read_site(home)
    except CloisterError as error:
        return [_fault("site.toml", error, "mend it; `cloister-site init` in another folder shows what it may hold")]
    findings = [Finding(what="site.toml", ok=True, found=f"site {config.id}")]
    findings += [*examine_modes(home), *examine_keys(home), *judge_grants(config), *examine_data(home, config)]
    findings += examine_roster(home, config)
    findings.append(judge_disk(shutil.disk_usage(home).free))
    findings.append(judge_memory(psutil.virtual_memory().available))
    findings.append(judge_gpus(_gpus()))
    return [*findings, *examine_link(home, clock)]


def _columns(path: Path, section: DataSection) -> tuple[str, ...]:
    own, plain = section.columns, ColumnsSection()
    label = own.label or (None if own.spans else plain.label)
    columns = Columns(text=own.text or plain.text, label=label, unit=own.unit, linked=own.linked or (), spans=own.spans)
    first = next(Source(path, columns).rows(), None)
    if first is None:
        raise DataError(f"{path.name} holds no row", expected="one or more")
    return tuple(first.value) if isinstance(first.value, dict) else columns.named()


def _gpus() -> list[str]:
    import torch  # here: only this finding needs it, and it takes seconds to load

    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def _fault(what: str, error: CloisterError, mend: str) -> Finding:
    """An error as a finding: its own remedy is what to do, where it has one."""
    found = str(error).removesuffix(f"; {error.remedy}")
    return Finding(what=what, ok=False, found=found, mend=error.remedy or mend)


def _gigabytes(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
