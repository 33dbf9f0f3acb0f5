"""What prekeys cost: a request and its answer, sealed and opened at both ends, with them and without, in one run.

`python -m benchmarks.prekeys` prints processor time in milliseconds (medians of interleaved turns, one core) and bytes.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

from privacy.sealing import (
    PREKEY_SUITE,
    Direction,
    Identity,
    Prekey,
    SealContext,
    Unspent,
    announcement,
    answer_prekey,
    open_sealed,
    seal,
)

TURNS, SIZE = 200, 1024
DOWN = SealContext(run="r", round=1, site="a", direction=Direction.DOWN, sequence=1, content_type="train")
UP = SealContext(run="r", round=1, site="a", direction=Direction.UP, sequence=1, content_type="train")
COORDINATOR, SITE = Identity.generate(), Identity.generate()
SAID, SECRET = os.urandom(SIZE), os.urandom(32)


def without() -> int:
    """Both messages to identities: their bytes."""
    request = seal(SAID, context=DOWN, sender=COORDINATOR, recipients=[SITE.public()])
    open_sealed(request, context=DOWN, sender=COORDINATOR.public(), recipient=SITE)
    answer = seal(SAID, context=UP, sender=SITE, recipients=[COORDINATOR.public()])
    open_sealed(answer, context=UP, sender=SITE.public(), recipient=COORDINATOR)
    return len(request) + len(answer)


def with_prekeys() -> int:
    """Both to prekeys, with what each end does around them: reading what it keeps, making new ones, announcing."""
    to_site = UNSPENT.keys[0].public()
    told = announcement([answer_prekey(SECRET, DOWN).public()])
    ends = {"context": DOWN, "sender": COORDINATOR}
    request = seal([told, SAID], **ends, recipients=[to_site], suite=PREKEY_SUITE)  # type: ignore[arg-type]
    kept = Unspent.from_bytes(UNSPENT.to_bytes())
    open_sealed(request, context=DOWN, sender=COORDINATOR.public(), recipient=kept.keys[0])
    again = Unspent.from_bytes(UNSPENT.to_bytes()).admitted(to_site.id())
    again.to_bytes()
    told = announcement(again.public())
    ends = {"context": UP, "sender": SITE}
    to = answer_prekey(SECRET, DOWN)
    answer = seal([told, SAID], **ends, recipients=[to.public()], suite=PREKEY_SUITE)  # type: ignore[arg-type]
    open_sealed(answer, context=UP, sender=SITE.public(), recipient=answer_prekey(SECRET, DOWN))
    return len(request) + len(answer)


def milliseconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


UNSPENT = Unspent().admitted(b"")
WORKS: dict[str, Callable[[], object]] = {
    "without": without,
    "with": with_prekeys,
    "one key made": Prekey.generate,
    "one answer's key drawn": lambda: answer_prekey(SECRET, DOWN),
}


def main() -> None:
    """Measure and print."""
    times: dict[str, list[float]] = {name: [] for name in WORKS}
    for _ in range(TURNS):
        for name, work in WORKS.items():
            times[name].append(milliseconds(work))
    median = {name: statistics.median(each) for name, each in times.items()}
    for name, value in median.items():
        print(f"{name:24} {value:7.3f} ms")
    print(f"with / without           {median['with'] / median['without']:7.2f}")
    print(f"bytes more               {with_prekeys() - without():7d}")


if __name__ == "__main__":
    main()
