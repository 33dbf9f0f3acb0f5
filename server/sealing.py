"""The sealing layer on the coordinator: what leaves is encrypted to its site and signed, what comes back is opened.

Inside this layer are sealed bytes, outside it plain records. A reply that does not open is not lost silently: it turns
into a refusal with the code `seal`, so that the layer above counts its site out of the round.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from privacy.errors import CloisterError, ConfigError, ProtocolError, SealError
from privacy.sealing import (
    Identity,
    PublicIdentity,
    SealContext,
    open_sealed,
    peek_context,
    seal,
)
from protocol.addressing import EVERY_SITE, answer_context, request_context
from protocol.messages import HELLO, Order, Outcome, Refusal, refused
from protocol.payload import decode_content, encode_content, unwrap_sealed, wrap_sealed
from server.layer import GridLayer


class SealingGrid(GridLayer):
    """Seals requests and opens replies for the sites of a roster, in one run.

    `roster`: public identity by site id. Which node is which site is learned from the greeting: a node is the site
    whose key signed its answer, and no other. Every request has a sequence number of its own, which its answer must
    bear: an old answer opens nowhere.
    """

    def __init__(self, inner: Grid, *, run: str, identity: Identity, roster: Mapping[str, PublicIdentity]) -> None:
        if EVERY_SITE in roster:
            raise ConfigError("the roster", expected="site ids", found="the name of all sites")
        super().__init__(inner)
        self._run, self._identity, self._roster = run, identity, dict(roster)
        self._site_of: dict[int, str] = {}
        self._sequence = 0

    @property
    def place(self) -> tuple[int, dict[int, str]]:
        """The last sequence number, and which node is which site: what a run that goes on has to know again."""
        return self._sequence, dict(self._site_of)

    def restore(self, sequence: int, site_of: Mapping[int, str]) -> None:
        """Go on after that sequence number, with nodes that have greeted before."""
        self._sequence, self._site_of = sequence, {node: site for node, site in site_of.items() if site in self._roster}

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        sent: dict[int, SealContext] = {}
        for reply in self.inner.send_and_receive(self._sealed(messages, sent), timeout=timeout):
            if not reply.has_error():
                reply.content = self._opened(reply, sent.get(reply.metadata.src_node_id))
            yield reply
            del reply  # while the next one is made, this one is its taker's alone

    def _sealed(self, messages: Iterable[Message], sent: dict[int, SealContext]) -> Iterator[Message]:
        """Seal each message as it is asked for: one sealed payload exists at a time, but for the shared greeting."""
        greeting: tuple[SealContext, bytes] | None = None
        for message in messages:
            node, kind = message.metadata.dst_node_id, message.metadata.message_type
            if kind == HELLO:
                greeting = greeting or self._seal(message, EVERY_SITE, list(self._roster.values()))
                context, data = greeting
            else:
                context, data = self._seal(message, *self._addressee(node))
            sent[node], content = context, [wrap_sealed(data)]
            del data  # while the next one is not asked for, only whoever sends it holds it
            yield Message(
                content=content.pop(),
                dst_node_id=node,
                message_type=kind,
                ttl=message.metadata.ttl,
                group_id=message.metadata.group_id,
            )

    def _addressee(self, node: int) -> tuple[str, list[PublicIdentity]]:
        site = self._site_of.get(node)
        if site is None:
            raise ProtocolError("a message to a node", expected="one that has greeted", found="an unknown node")
        return site, [self._roster[site]]

    def _seal(self, message: Message, site: str, recipients: list[PublicIdentity]) -> tuple[SealContext, bytes]:
        self._sequence += 1
        order = Order.of(message.content)
        context = request_context(
            run=self._run,
            round_number=order.round,
            site=site,
            sequence=self._sequence,
            kind=message.metadata.message_type,
        )
        plain = encode_content(message.content)
        return context, seal(plain, context=context, sender=self._identity, recipients=recipients)

    def _opened(self, reply: Message, request: SealContext | None) -> RecordDict:
        node = reply.metadata.src_node_id
        try:
            if request is None:
                raise ProtocolError("a reply", expected="an answer to a request", found="an answer to none")
            sealed = unwrap_sealed(reply.content)
            reply.content = RecordDict()  # one copy of a large answer is let go of before the next one is made
            site = self._site_of.get(node) or self._claimed_site(sealed, request)
            plain = [self._open(sealed, request, site)]
            del sealed
            content = decode_content(plain.pop())
            if Outcome.of(content).site != site:
                raise ProtocolError("an answer", expected="the name of the site that signed it", found="another")
            self._site_of.setdefault(node, site)
        except CloisterError as error:
            code = Refusal.SEAL if isinstance(error, SealError) else Refusal.PROTOCOL
            return refused(self._site_of.get(node, ""), code, str(error))
        return content

    def _claimed_site(self, sealed: bytes, request: SealContext) -> str:
        """The site that an answer to the greeting says it is from; its signature is checked with that site's key."""
        site = peek_context(sealed).site
        if request.content_type != HELLO or site not in self._roster:
            raise SealError("a greeting", expected="a site of the roster", found="another name")
        if site in self._site_of.values():
            raise SealError("a greeting", expected="one node a site", found="a second node with one site's key")
        return site

    def _open(self, sealed: bytes, request: SealContext, site: str) -> bytes:
        context = answer_context(request, site)
        return open_sealed(sealed, context=context, sender=self._roster[site], recipient=self._identity)
