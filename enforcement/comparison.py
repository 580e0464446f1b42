"""Policies side by side: the baseline, the proposals, and a name for each that no other one has."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from enforcement.history import Period
from enforcement.policy import NO_POLICY
from enforcement.replay import Replay

NOTHING = "no policy"  # how the baseline "none" is called where people read


class Named(NamedTuple):
    """A replay with the name under which it is shown."""

    name: str
    replay: Replay
    is_baseline: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Proposals and the baseline that they are held against; None: nothing is enforced."""

    proposals: tuple[Named, ...]
    baseline: Named | None

    @property
    def all(self) -> tuple[Named, ...]:
        """The baseline, if it is a policy, then the proposals."""
        return (self.baseline, *self.proposals) if self.baseline else self.proposals

    @property
    def first(self) -> Named:
        """The proposal that a page is about before all others."""
        return self.proposals[0]

    @property
    def period(self) -> Period:
        """The days replayed, the same for all."""
        return self.first.replay.period

    @property
    def baseline_name(self) -> str:
        """What the proposals are held against, in words."""
        return self.baseline.name if self.baseline else NOTHING

    def baseline_total(self, measure: str) -> float:
        """Give a total under the baseline; without a policy all that is vulnerable is delivered at once."""
        if self.baseline:
            return self.baseline.replay.totals[measure]
        totals = self.first.replay.totals
        return {"accepted_vulnerable": totals["vulnerable"], "at_once": totals["subject"]}.get(measure, 0.0)


def compare(replays: Sequence[Replay], *, baseline: str = NO_POLICY) -> Comparison:
    """Set replays side by side; unless the baseline is none, the first of them is the baseline.

    >>> compare([])
    Traceback (most recent call last):
    ValueError: no policy to compare (expected at least one besides the baseline)
    """
    names = list(_apart([replay.policy.name for replay in replays]))
    n_baselines = 0 if baseline == NO_POLICY else 1
    named = [
        Named(name, replay, at < n_baselines) for at, (name, replay) in enumerate(zip(names, replays, strict=True))
    ]
    if len(named) == n_baselines:
        raise ValueError("no policy to compare (expected at least one besides the baseline)")
    return Comparison(proposals=tuple(named[n_baselines:]), baseline=named[0] if n_baselines else None)


def _apart(names: Sequence[str]) -> Iterator[str]:
    """Put a number to names that stand more than once, so that charts keep their lines apart."""
    for at, name in enumerate(names):
        before = names[:at].count(name)
        yield f"{name} ({before + 1})" if before else name
