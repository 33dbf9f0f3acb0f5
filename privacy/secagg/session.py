"""One attempt as both ends see it: plan, context and roster that belong together, and who has which index."""

from __future__ import annotations

from dataclasses import dataclass, field

from privacy.errors import ConfigError, SealError
from privacy.secagg.context import Context, Roster
from privacy.secagg.faults import Fault
from privacy.secagg.plan import SecAggPlan
from privacy.secagg.signed import Message, Signed


@dataclass(frozen=True, kw_only=True)
class Session:
    """Plan, context and pinned roster of one attempt.

    Raises: ConfigError unless the context's hashes and suite are those of the plan and the roster, and every invited
    site stands in the roster.
    """

    plan: SecAggPlan
    context: Context
    roster: Roster
    ctx: bytes = field(init=False)

    def __post_init__(self) -> None:
        if self.context.plan_hash != self.plan.hash() or self.context.suite is not self.plan.suite:
            raise ConfigError("the context belongs to another plan", remedy="make it from the plan that is agreed on")
        if self.context.roster_hash != self.roster.hash():
            raise ConfigError("the context belongs to another roster", remedy="compare the epochs of the rosters")
        strangers = [site for site in self.plan.invited if site not in self.roster.sites]
        if strangers:
            raise ConfigError("the plan invites a site that the roster does not know", found=", ".join(strangers))
        object.__setattr__(self, "ctx", self.context.digest())

    def site(self, index: int) -> str:
        """The id of the site with that index."""
        return self.plan.invited[index - 1]

    def check_signed(self, signed: Signed[Message], *, blame: str | None = None) -> str:
        """The id of the invited site that signed this message, for this attempt.

        Raises: Fault of `blame` (or of the site that is named as sender) for a sender that was not invited, another
        context, and a signature that does not hold.
        """
        message = signed.message
        if not 1 <= message.sender <= len(self.plan.invited):
            raise Fault(blame or "someone", "sent a message of a site that was not invited", found=str(message.sender))
        name = self.site(message.sender)
        kind = type(message).__name__
        if message.context != self.ctx:
            raise Fault(
                blame or name,
                f"sent {kind} of {name} from another context",
                expected="this run, round, attempt, roster, model and plan",
                remedy="it was replayed, or the two ends were told two things",
            )
        try:
            self.roster.sites[name].verify(signed.signature, message.to_bytes())
        except SealError:
            raise Fault(blame or name, f"sent {kind} of {name} with a signature that does not hold") from None
        return name
