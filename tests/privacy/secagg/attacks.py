"""What the attack tests share: a refusal leaves the state as it was and shows no secret."""

from __future__ import annotations

import contextlib

import pytest

from privacy.errors import ProtocolError
from privacy.secagg import Fault, Site, Survivors
from privacy.secagg.faults import COORDINATOR
from tests.privacy.secagg.driver import identity, make_contribution

LIAR = {"party": COORDINATOR}


@contextlib.contextmanager
def refused(machine, *, party=None, kind=ProtocolError, match=None):
    """The block raises, names the party whose fault it is, and changes nothing in the machine."""
    before = machine.to_bytes()
    secrets = [machine.secrets.rho, machine.secrets.b] if isinstance(machine, Site) and machine.secrets else []
    with pytest.raises(kind, match=match) as caught:
        yield
    assert machine.to_bytes() == before
    if party is not None:
        assert isinstance(caught.value, Fault) and caught.value.party == party
    text = str(caught.value) + repr(caught.value)
    assert not any(secret.hex() in text or repr(secret) in text for secret in secrets)


def reborn(site):
    """The site after a crash: what its stored bytes say."""
    return Site.from_bytes(site.to_bytes(), site.session, identity(site.me))


def mask(attempt, index, delivery, contribution=None):
    return attempt.sites[index].mask(delivery, contribution or make_contribution(attempt.session.plan, index))


def sets(attempt, survivors, sharers=(1, 2, 3, 4)):
    return Survivors(sharers=sharers, survivors=survivors)
