"""The sealing layer at the site: opens and verifies what the coordinator sent, seals what goes back."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod

from client.site import Site
from privacy.sealing import open_sealed, peek_context, root_hash, seal
from protocol.addressing import answer_context, check_request
from protocol.payload import decode_content, encode_content, unwrap_sealed, wrap_sealed

FindSite = Callable[[Context], Site]


def sealing_mod(find_site: FindSite) -> Mod:
    """A Flower mod around everything else: inside it are plain records, outside sealed bytes.

    Order of checks: the envelope's place, then signature, recipient and every chunk, then freshness on disk; only
    then is the content decoded. A request that fails one of them raises, and nothing was acted on.
    """

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        site = find_site(context)
        sealed = unwrap_sealed(message.content)
        message.content = RecordDict()  # here and below: of a large message one copy is held, not three
        place = peek_context(sealed)
        check_request(place, site.config.id, message.metadata.message_type)
        plain = open_sealed(sealed, context=place, sender=site.coordinator, recipient=site.identity)
        site.run(place.run).admit(place, root_hash(sealed))
        opened = [plain]
        del sealed, plain
        message.content = decode_content(opened.pop())
        reply = call_next(message, context)
        message.content = RecordDict()
        answer = seal(
            encode_content(reply.content),
            context=answer_context(place, site.config.id),
            sender=site.identity,
            recipients=[site.coordinator],
        )
        reply.content = wrap_sealed(answer)
        return reply

    return mod
