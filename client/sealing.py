"""The sealing layer at the site: opens and verifies what the coordinator sent, seals what goes back."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Array, Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod

from client.site import Site
from privacy.sealing import PEEK_BYTES, Opened, SealContext, open_message, peek_context, seal, seal_pieces
from protocol.addressing import answer_context, check_request
from protocol.held import Keep, SealedFile, Writer, reader_of
from protocol.payload import Buffer, decode_content, encode_content, sealed_array, wrap_sealed

FindSite = Callable[[Context], Site]


def sealing_mod(find_site: FindSite) -> Mod:
    """A Flower mod around everything else: inside it are plain records, outside sealed bytes.

    Order of checks: the envelope's place, then signature, recipient and every chunk, then freshness on disk; only
    then is the content decoded. A request that fails one of them raises, and nothing was acted on.
    """

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        site = find_site(context)
        sealed = sealed_array(message.content)
        keep = sealed.keep if isinstance(sealed, SealedFile) else None
        message.content = RecordDict()  # here and below: of a large message one copy is held, not three
        place, opened = _opened(site, sealed, message.metadata.message_type)
        del sealed
        site.run(place.run).admit(place, opened.root)
        message.content = decode_content(*(part for part in (opened.own, opened.common) if part is not None))
        del opened
        reply = call_next(message, context)
        message.content = RecordDict()
        reply.content = wrap_sealed(
            _answer(site, encode_content(reply.content), answer_context(place, site.config.id), keep)
        )
        return reply

    return mod


def _opened(site: Site, sealed: Array, kind: str) -> tuple[SealContext, Opened]:
    reader, size = reader_of(sealed)
    with reader:
        place = peek_context(reader.read(PEEK_BYTES))
        check_request(place, site.config.id, kind)
        reader.seek(0)
        return place, open_message(reader, size, context=place, sender=site.coordinator, recipient=site.identity)


def _answer(site: Site, plain: list[Buffer], context: SealContext, keep: Keep | None) -> bytes | SealedFile:
    """The sealed answer: a file where the host of the request takes one, from where the numbers lie."""
    to = [site.coordinator]
    if keep is None:
        return seal(plain, context=context, sender=site.identity, recipients=to)

    def write(writer: Writer) -> None:
        seal_pieces(plain, writer, context=context, sender=site.identity, recipients=to)

    return keep(sum(map(len, plain)), write)
