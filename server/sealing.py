"""The sealing layer on the coordinator: what leaves is encrypted to its site and signed, what comes back is opened.

Inside this layer are sealed bytes, outside it plain records. A reply that does not open is not lost silently: it turns
into a refusal with the code `seal`, so that the layer above counts its site out of the round.

The greeting is wrapped to the sites' identities; every request after it to a prekey that its site announced in its last
answer, every answer to a prekey that its request announced (`server.prekeys`). Nothing falls back to an identity.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from privacy.errors import CloisterError, ConfigError, ProtocolError, SealError
from privacy.sealing import (
    PEEK_BYTES,
    PREKEY_SUITE,
    RENEWAL_SUITE,
    CommonBody,
    Identity,
    Opened,
    Opener,
    PublicIdentity,
    Recipient,
    SealContext,
    announcement,
    open_message,
    peek_context,
    peek_header,
    seal,
    seal_body,
    seal_naming,
)
from protocol.addressing import EVERY_SITE, answer_context, request_context
from protocol.held import SealedFile, Write, reader_of
from protocol.messages import HELLO, Order, Outcome, refused
from protocol.payload import decode_content, encode_content, sealed_array, split_common, wrap_sealed
from server.layer import GridLayer
from server.prekeys import RoundSecrets, SitePrekeys
from server.rounds import code_of

STEP = 2
"""Sequence numbers of a request: its own, and the next one for the case that it has to be asked once more."""


Sealed = bytes | SealedFile


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

    A site that has lost its prekeys says so, with new ones, and is asked once more in the same round; `told` is given a
    line about it. `secrets`: what the answers' prekeys come from (default: it is gone with this object).

    Where the host keeps what requests have in common (`KeepsCommon`), large arrays that several messages share, the
    very same record, are sealed once (`privacy.sealing.common`). They must not change before all messages were sent.
    """

    def __init__(
        self,
        inner: Grid,
        *,
        run: str,
        identity: Identity,
        roster: Mapping[str, PublicIdentity],
        secrets: RoundSecrets | None = None,
        told: Callable[[str], None] = lambda _text: None,
    ) -> None:
        if EVERY_SITE in roster:
            raise ConfigError("the roster", expected="site ids", found="the name of all sites")
        super().__init__(inner)
        self._run, self._identity, self._roster = run, identity, dict(roster)
        self._site_of: dict[int, str] = {}
        self._sequence = 0
        self._host, self._told = _host_of(inner), told
        self._secrets, self._prekeys = secrets if secrets is not None else RoundSecrets(), SitePrekeys()

    @property
    def place(self) -> tuple[int, dict[int, str]]:
        """The last sequence number, and which node is which site: what a run that goes on has to know again."""
        return self._sequence, dict(self._site_of)

    @property
    def prekeys(self) -> SitePrekeys:
        """What the sites have announced: a run that goes on has to know it again, too."""
        return self._prekeys

    def restore(self, sequence: int, site_of: Mapping[int, str], prekeys: SitePrekeys | None = None) -> None:
        """Go on after that sequence number, with nodes that have greeted before and what their sites announced."""
        self._sequence, self._site_of = sequence, {node: site for node, site in site_of.items() if site in self._roster}
        self._prekeys = prekeys if prekeys is not None else SitePrekeys()

    def over(self, round_number: int) -> None:
        """The round's account is on disk: what its answers could be opened with is deleted."""
        self._secrets.over(round_number)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        with closing(_Sending(self, messages, self._host)) as sending:
            while True:
                for reply in self.inner.send_and_receive(sending, timeout=timeout):
                    if reply.has_error() or self._read(reply, sending):
                        yield reply
                    del reply  # while the next one is made, this one is its taker's alone
                if not sending.again:  # a host that took all messages before the first reply
                    return

    def _addressee(self, node: int) -> str:
        site = self._site_of.get(node)
        if site is None:
            raise ProtocolError("a message to a node", expected="one that has greeted", found="an unknown node")
        return site

    def greeting(self, message: Message) -> tuple[SealContext, bytes]:
        """A greeting, which is one for all sites of the roster."""
        context = self._next_context(message, EVERY_SITE)
        return context, self._seal(message.content, context, list(self._roster.values()))

    def asked(self, message: Message, common: _Common, before: _Asked | None = None) -> tuple[_Asked, Sealed]:
        """A request to one site, sealed; `before`: the same one, as the site could not open it.

        What is large in it, and was sealed for another site just now, is not sealed again. Where the site has no prekey
        that is unused, it is asked for new ones first, by a request that says nothing.
        """
        site = self._addressee(message.metadata.dst_node_id)
        to, unused = self._prekeys.take(site)
        if before is None:
            context = self._next_context(message, site)
        else:
            context = replace(before.context, sequence=before.context.sequence + 1)
        asked = _Asked(message=message, context=context, empty=not unused, once_more=before is not None)
        if asked.empty:
            return asked, self._seal(RecordDict(), context, [to])
        large, own = split_common(message.content)
        kept = common.of(large) if large else None
        if kept is None:
            return asked, self._seal(message.content, context, [to])
        path, body = kept
        head = seal_naming(
            body,
            encode_content(own),
            context=context,
            sender=self._identity,
            recipients=[to],
            announced=[self._secrets.prekey(context).public()],
        )
        return asked, SealedFile(path, head=head)

    def _seal(self, content: RecordDict, context: SealContext, recipients: Sequence[Recipient]) -> bytes:
        plain = [announcement([self._secrets.prekey(context).public()]), *encode_content(content)]
        return seal(plain, context=context, sender=self._identity, recipients=recipients, suite=PREKEY_SUITE)

    def _next_context(self, message: Message, site: str) -> SealContext:
        self._sequence += STEP
        return request_context(
            run=self._run,
            round_number=Order.of(message.content).round,
            site=site,
            sequence=self._sequence - 1,
            kind=message.metadata.message_type,
        )

    def _read(self, reply: Message, sending: _Sending) -> bool:
        """Open a reply; False when its request is sent once more instead."""
        node = reply.metadata.src_node_id
        asked = sending.sent.get(node)
        try:
            if asked is None:
                raise ProtocolError("a reply", expected="an answer to a request", found="an answer to none")
            content = [reply.content]
            reply.content = RecordDict()  # one copy of a large answer is let go of before the next one is made
            site, opened = self._open(content, asked.context, node)
            self._prekeys.announced(site, opened.prekeys)
            if asked.empty or opened.suite is RENEWAL_SUITE:
                self._once_more(asked, site, sending)
                return False
            reply.content = self._answer(site, node, opened)
        except CloisterError as error:
            reply.content = refused(self._site_of.get(node, ""), code_of(error), str(error))
        return True

    def _once_more(self, asked: _Asked, site: str, sending: _Sending) -> None:
        """Raises: SealError for what was asked once more already, or needs no prekey."""
        if asked.once_more or asked.context.content_type == HELLO:
            raise SealError("a site's prekeys", expected="ones that it keeps until they are used", found="none, again")
        if not asked.empty:
            self._told(f"{site} has lost its prekeys (was its state restored?); it made new ones and is asked again")
        sending.again.append(asked)

    def _answer(self, site: str, node: int, opened: Opened) -> RecordDict:
        answer = decode_content(opened.own)
        if Outcome.of(answer).site != site:
            raise ProtocolError("an answer", expected="the name of the site that signed it", found="another")
        self._site_of.setdefault(node, site)
        return answer

    def _open(self, content: list[RecordDict], request: SealContext, node: int) -> tuple[str, Opened]:
        """Who signed an answer, and what it says. The content is taken out of its list: it is let go of on the way."""
        reader, size = reader_of(sealed_array(content.pop()))
        with reader:
            site = self._site_of.get(node) or self._claimed_site(reader.read(PEEK_BYTES), request)
            reader.seek(0)
            renewal = peek_header(reader).suite is RENEWAL_SUITE
            reader.seek(0)
            # The identity opens only what can say nothing but prekeys: whatever else is wrapped to it is refused.
            opener: Opener = self._identity if renewal else self._secrets.prekey(request)
            opened = open_message(
                reader, size, context=answer_context(request, site), sender=self._roster[site], recipient=opener
            )
        if opened.common is not None:
            raise ProtocolError("an answer", expected="one that stands by itself", found="one with a common body")
        if not opened.suite.announces or (opened.suite is RENEWAL_SUITE) is not renewal:
            raise SealError("an answer", expected="one that announces the site's prekeys", found="one without")
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


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A request under way. `empty`: it asks for prekeys alone; `once_more`: it was sent before and not opened."""

    message: Message
    context: SealContext
    empty: bool = False
    once_more: bool = False


class _Sending:
    """The messages of one round of sending, each sealed when it is asked for: one sealed payload exists at a time.

    What is to be sent once more comes before what was not sent yet.
    """

    def __init__(self, layer: SealingGrid, messages: Iterable[Message], host: KeepsCommon | None) -> None:
        self._layer, self._messages, self._common = layer, iter(messages), _Common(host)
        self._greeting: tuple[SealContext, bytes] | None = None
        self.sent: dict[int, _Asked] = {}
        self.again: deque[_Asked] = deque()

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        before = self.again.popleft() if self.again else None
        message = before.message if before is not None else next(self._messages)
        node, kind = message.metadata.dst_node_id, message.metadata.message_type
        sealed: Sealed
        if kind == HELLO:
            self._greeting = self._greeting or self._layer.greeting(message)
            context, sealed = self._greeting
            asked = _Asked(message=message, context=context)
        else:
            asked, sealed = self._layer.asked(message, self._common, before)
        self.sent[node] = asked
        return Message(
            content=wrap_sealed(sealed),
            dst_node_id=node,
            message_type=kind,
            ttl=message.metadata.ttl,
            group_id=message.metadata.group_id,
        )

    def close(self) -> None:
        """No more messages are asked for."""
        self._common.drop()


def _host_of(grid: Grid) -> KeepsCommon | None:
    while isinstance(grid, GridLayer):
        grid = grid.inner
    return grid if isinstance(grid, KeepsCommon) else None
