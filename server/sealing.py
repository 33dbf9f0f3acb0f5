"""The sealing layer on the coordinator: what leaves is encrypted to its site and signed, what comes back is opened.

Inside this layer are sealed bytes, outside it plain records. A reply that does not open is not lost silently: it turns
into a refusal with the code `seal`, so that the layer above counts its site out of the round.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from privacy.errors import CloisterError, ConfigError, ProtocolError, SealError
from privacy.sealing import (
    PEEK_BYTES,
    CommonBody,
    Identity,
    Opened,
    PublicIdentity,
    SealContext,
    open_message,
    peek_context,
    seal,
    seal_body,
    seal_naming,
)
from protocol.addressing import EVERY_SITE, answer_context, request_context
from protocol.held import SealedFile, Write, reader_of
from protocol.messages import HELLO, Order, Outcome, Refusal, refused
from protocol.payload import decode_content, encode_content, sealed_array, split_common, wrap_sealed
from server.layer import GridLayer


@runtime_checkable
class KeepsCommon(Protocol):
    """A host that keeps what several requests have in common once for all of them."""

    def keep_common(self, size: int, write: Write) -> Path:
        """Have about `size` bytes written, on disk when this returns."""

    def drop_common(self, path: Path) -> None:
        """No more requests go on with it."""


class SealingGrid(GridLayer):
    """Seals requests and opens replies for the sites of a roster, in one run.

    `roster`: public identity by site id. Which node is which site is learned from the greeting: a node is the site
    whose key signed its answer, and no other. Every request has a sequence number of its own, which its answer must
    bear: an old answer opens nowhere.

    Where the host keeps what requests have in common (`KeepsCommon`), large arrays that several messages share, the
    very same record, are sealed once (`privacy.sealing.common`). They must not change before all messages were sent.
    """

    def __init__(self, inner: Grid, *, run: str, identity: Identity, roster: Mapping[str, PublicIdentity]) -> None:
        if EVERY_SITE in roster:
            raise ConfigError("the roster", expected="site ids", found="the name of all sites")
        super().__init__(inner)
        self._run, self._identity, self._roster = run, identity, dict(roster)
        self._site_of: dict[int, str] = {}
        self._sequence = 0
        self._host = _host_of(inner)

    @property
    def place(self) -> tuple[int, dict[int, str]]:
        """The last sequence number, and which node is which site: what a run that goes on has to know again."""
        return self._sequence, dict(self._site_of)

    def restore(self, sequence: int, site_of: Mapping[int, str]) -> None:
        """Go on after that sequence number, with nodes that have greeted before."""
        self._sequence, self._site_of = sequence, {node: site for node, site in site_of.items() if site in self._roster}

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        sent: dict[int, SealContext] = {}
        with closing(self._sealed(messages, sent)) as sealed:
            for reply in self.inner.send_and_receive(sealed, timeout=timeout):
                if not reply.has_error():
                    reply.content = self._opened(reply, sent.get(reply.metadata.src_node_id))
                yield reply
                del reply  # while the next one is made, this one is its taker's alone

    def _sealed(self, messages: Iterable[Message], sent: dict[int, SealContext]) -> Generator[Message, None, None]:
        """Seal each message as it is asked for: one sealed payload exists at a time, but for the shared greeting."""
        greeting: tuple[SealContext, bytes] | None = None
        common = _Common(self._host)
        try:
            for message in messages:
                node, kind = message.metadata.dst_node_id, message.metadata.message_type
                sealed: bytes | SealedFile
                if kind == HELLO:
                    greeting = greeting or self._seal(message, EVERY_SITE, list(self._roster.values()))
                    context, sealed = greeting
                else:
                    context, sealed = self._sealed_to(message, self._addressee(node), common)
                sent[node], content = context, [wrap_sealed(sealed)]
                del sealed  # while the next one is not asked for, only whoever sends it holds it
                yield Message(
                    content=content.pop(),
                    dst_node_id=node,
                    message_type=kind,
                    ttl=message.metadata.ttl,
                    group_id=message.metadata.group_id,
                )
        finally:
            common.drop()

    def _addressee(self, node: int) -> str:
        site = self._site_of.get(node)
        if site is None:
            raise ProtocolError("a message to a node", expected="one that has greeted", found="an unknown node")
        return site

    def _sealed_to(self, message: Message, site: str, common: _Common) -> tuple[SealContext, bytes | SealedFile]:
        """A message to one site; what is large in it, and was sealed for another site just now, is not sealed again."""
        large, own = split_common(message.content)
        kept = common.of(large) if large else None
        if kept is None:
            return self._seal(message, site, [self._roster[site]])
        path, body = kept
        context = self._next_context(message, site)
        head = seal_naming(
            body, encode_content(own), context=context, sender=self._identity, recipients=[self._roster[site]]
        )
        return context, SealedFile(path, head=head)

    def _seal(self, message: Message, site: str, recipients: list[PublicIdentity]) -> tuple[SealContext, bytes]:
        context = self._next_context(message, site)
        plain = encode_content(message.content)
        return context, seal(plain, context=context, sender=self._identity, recipients=recipients)

    def _next_context(self, message: Message, site: str) -> SealContext:
        self._sequence += 1
        return request_context(
            run=self._run,
            round_number=Order.of(message.content).round,
            site=site,
            sequence=self._sequence,
            kind=message.metadata.message_type,
        )

    def _opened(self, reply: Message, request: SealContext | None) -> RecordDict:
        node = reply.metadata.src_node_id
        try:
            if request is None:
                raise ProtocolError("a reply", expected="an answer to a request", found="an answer to none")
            content = [reply.content]
            reply.content = RecordDict()  # one copy of a large answer is let go of before the next one is made
            site, opened = self._open(content, request, node)
            answer = decode_content(opened.own)
            if Outcome.of(answer).site != site:
                raise ProtocolError("an answer", expected="the name of the site that signed it", found="another")
            self._site_of.setdefault(node, site)
        except CloisterError as error:
            code = Refusal.SEAL if isinstance(error, SealError) else Refusal.PROTOCOL
            return refused(self._site_of.get(node, ""), code, str(error))
        return answer

    def _open(self, content: list[RecordDict], request: SealContext, node: int) -> tuple[str, Opened]:
        """Who signed an answer, and what it says. The content is taken out of its list: it is let go of on the way."""
        reader, size = reader_of(sealed_array(content.pop()))
        with reader:
            site = self._site_of.get(node) or self._claimed_site(reader.read(PEEK_BYTES), request)
            reader.seek(0)
            opened = open_message(
                reader,
                size,
                context=answer_context(request, site),
                sender=self._roster[site],
                recipient=self._identity,
            )
        if opened.common is not None:
            raise ProtocolError("an answer", expected="one that stands by itself", found="one with a common body")
        return site, opened

    def _claimed_site(self, sealed: bytes, request: SealContext) -> str:
        """The site that an answer to the greeting says it is from; its signature is checked with that site's key."""
        site = peek_context(sealed).site
        if request.content_type != HELLO or site not in self._roster:
            raise SealError("a greeting", expected="a site of the roster", found="another name")
        if site in self._site_of.values():
            raise SealError("a greeting", expected="one node a site", found="a second node with one site's key")
        return site


@dataclass
class _Common:
    """The large records that were sealed last in one round of sending, and where their body lies."""

    host: KeepsCommon | None
    records: RecordDict = field(default_factory=RecordDict)
    kept: tuple[Path, CommonBody] | None = None

    def of(self, records: RecordDict) -> tuple[Path, CommonBody] | None:
        """The body of these records, sealed unless the last one is theirs; None where the host keeps none."""
        if self.host is None:
            return None
        same = records.keys() == self.records.keys() and all(records[name] is self.records[name] for name in records)
        if self.kept is None or not same:
            self.drop()
            pieces, bodies = encode_content(records), list[CommonBody]()
            size = sum(len(piece) for piece in pieces)
            path = self.host.keep_common(size, lambda writer: bodies.append(seal_body(pieces, writer)))
            self.records, self.kept = records, (path, bodies[0])
        return self.kept

    def drop(self) -> None:
        """Let the host know that no more requests will name the last one."""
        if self.host is not None and self.kept is not None:
            self.host.drop_common(self.kept[0])


def _host_of(grid: Grid) -> KeepsCommon | None:
    while isinstance(grid, GridLayer):
        grid = grid.inner
    return grid if isinstance(grid, KeepsCommon) else None
