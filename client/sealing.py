"""The sealing layer at the site: opens and verifies what the coordinator sent, seals what goes back.

A greeting is wrapped to the site's identity, and nothing else of a run is: every other request is wrapped to a prekey
that the site announced in an answer of the same run. A site that has no such key any more (its state was restored, or
it never greeted) opens nothing; it makes new prekeys and says so, in a message that can say nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO, FileIO

from flwr.app import Array, Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod

from client.site import Site
from privacy.errors import SealError
from privacy.sealing import (
    PEEK_BYTES,
    PREKEY_SUITE,
    RENEWAL_SUITE,
    Header,
    Opened,
    Opener,
    PublicPrekey,
    SealContext,
    Unspent,
    announcement,
    open_message,
    peek_context,
    peek_header,
    seal,
    seal_pieces,
    verify_closed,
)
from privacy.sealing.pieces import Reader
from protocol.addressing import answer_context, check_request
from protocol.held import Keep, SealedFile, Writer, reader_of
from protocol.messages import HELLO
from protocol.payload import Buffer, decode_content, encode_content, sealed_array, wrap_sealed

_LOG = logging.getLogger("cloister.site")
FindSite = Callable[[Context], Site]


def sealing_mod(find_site: FindSite) -> Mod:
    """A Flower mod around everything else: inside it are plain records, outside sealed bytes.

    Order of checks: the envelope's place, then signature, recipient and every chunk as it was sealed, then freshness on
    disk, with which the prekey that opened the request is gone; only then is the content decoded. A request that fails
    one of them raises, and nothing was acted on. Of a large content a chunk is opened where it is read: one that its
    sender sealed wrongly is refused there, and the request is used up.
    """

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        site = find_site(context)
        sealed = sealed_array(message.content)
        keep = sealed.keep if isinstance(sealed, SealedFile) else None
        message.content = RecordDict()  # here and below: of a large message one copy is held, not three
        admitted = _admitted(site, sealed, message.metadata.message_type)
        del sealed
        if admitted.opened is None:
            return Message(wrap_sealed(_renewal(site, admitted)), reply_to=message)
        opened, admitted.opened = admitted.opened, None
        message.content = content_of(opened)
        (to,) = opened.prekeys
        del opened
        reply = call_next(message, context)
        message.content = RecordDict()
        reply.content = wrap_sealed(_answer(site, encode_content(reply.content), admitted, to, keep))
        return reply

    return mod


@dataclass(kw_only=True)
class _Admitted:
    """A request that was taken. `opened`: None where its key is lost; `unspent`: what the answer announces."""

    place: SealContext
    unspent: Unspent
    opened: Opened | None


def _admitted(site: Site, sealed: Array, kind: str) -> _Admitted:
    reader, size = reader_of(sealed)
    with reader:
        place, header, opener = addressed(site, reader, kind)
        state = site.run(place.run)
        if opener is None:
            root = verify_closed(reader, context=place, sender=site.coordinator)
            return _Admitted(place=place, unspent=state.admit(place, root, _sole(header)), opened=None)
        opened = open_request(reader, size, site, place, opener)
        return _Admitted(place=place, unspent=state.admit(place, opened.root, opener.public().id()), opened=opened)


def addressed(site: Site, reader: FileIO | BytesIO, kind: str) -> tuple[SealContext, Header, Opener | None]:
    """What a request's envelope says, and the key that opens it, None where the site has not got it (any more).

    Nothing is verified yet; the reader stands at its beginning again.
    Raises: SealError, ProtocolError for a request to another site, of another kind, or without prekeys.
    """
    place = peek_context(reader.read(PEEK_BYTES))
    check_request(place, site.config.id, kind)
    reader.seek(0)
    header = peek_header(reader)
    reader.seek(0)
    return place, header, key_for(site, place, header)


def key_for(site: Site, place: SealContext, header: Header) -> Opener | None:
    """With which of its keys the site opens a request of a run: None where it has not got it (any more).

    Raises: SealError for a suite without prekeys, and for a request that is wrapped to an identity and is no greeting.
    """
    if not header.suite.announces or header.suite is RENEWAL_SUITE:
        raise SealError(
            "a request of a run",
            expected=f"a suite with prekeys, 0x{PREKEY_SUITE.value:04x} or 0x0005",
            found=f"0x{header.suite.value:04x}",
            remedy="a coordinator of an earlier release has none: install this one there",
        )
    if place.content_type == HELLO:
        return site.identity
    recipient_id = _sole(header)
    if recipient_id == site.identity.public().id():
        raise SealError(
            "a request is wrapped to the site's identity",
            expected="one that is wrapped to a prekey; only a greeting is not",
            remedy="it was sealed by someone who holds the coordinator's key and no prekey of this site",
        )
    return site.run(place.run).unspent().find(recipient_id)


def _sole(header: Header) -> bytes:
    if len(header.stanzas) != 1:
        raise SealError("a request to one site", expected="one recipient", found=str(len(header.stanzas)))
    return header.stanzas[0].recipient_id


def open_request(reader: Reader, size: int, site: Site, place: SealContext, opener: Opener) -> Opened:
    """A request whose signature, recipient and chunks hold; its freshness is not looked at. Raises: SealError."""
    opened = open_message(reader, size, context=place, sender=site.coordinator, recipient=opener)
    if not opened.suite.announces or len(opened.prekeys) != 1:
        raise SealError("a request of a run", expected="one prekey for its answer", found=str(len(opened.prekeys)))
    return opened


def content_of(opened: Opened) -> RecordDict:
    """The records of an opened request; large arrays stay where they lie. Raises: ProtocolError."""
    return decode_content(*(part for part in (opened.own, opened.common) if part is not None))


def _renewal(site: Site, admitted: _Admitted) -> bytes:
    """What a site says that cannot open a request: new prekeys, to the coordinator's identity, and nothing else."""
    place = admitted.place
    _LOG.warning(
        "run %s, round %d: this site has no prekey that the request was sealed to (was its state restored?); it makes "
        "new ones and asks for the request again",
        place.run,
        place.round,
    )
    context, to = answer_context(place, site.config.id), [site.coordinator]
    plain = announcement(admitted.unspent.public())
    return seal(plain, context=context, sender=site.identity, recipients=to, suite=RENEWAL_SUITE)


def _answer(
    site: Site, content: list[Buffer], admitted: _Admitted, to: PublicPrekey, keep: Keep | None
) -> bytes | SealedFile:
    """The sealed answer: a file where the host of the request takes one, from where the numbers lie."""
    context = answer_context(admitted.place, site.config.id)
    plain: list[Buffer] = [announcement(admitted.unspent.public()), *content]
    if keep is None:
        return seal(plain, context=context, sender=site.identity, recipients=[to], suite=PREKEY_SUITE)

    def write(writer: Writer) -> None:
        seal_pieces(plain, writer, context=context, sender=site.identity, recipients=[to], suite=PREKEY_SUITE)

    return keep(sum(map(len, plain)), write)
