"""What becomes of a message by the minute of the window at which it is first tried, whatever the traffic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from enforcement.verdict import Held, Sender

Floats = npt.NDArray[np.float64]

# What is counted of messages; `retries` counts deferred tries, the others each message once.
COUNTS: Final = ("at_once", "delayed", "rejected", "expired", "retries")
AT_ONCE, DELAYED, REJECTED, EXPIRED, RETRIES = range(len(COUNTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """Outcomes of one message of each sender: (pairs of Held, 60, senders, COUNTS); how late: (…, senders, delays)."""

    counts: Floats
    delays: Floats
    delay_minutes: tuple[int, ...]

    def expected(self, senders: Sequence[Sender]) -> Floats:
        """Give COUNTS expected of one message over the shares of the senders: (pairs, 60, COUNTS)."""
        return np.tensordot(self.counts, shares_of(senders), axes=(2, 0))


def shares_of(senders: Sequence[Sender]) -> Floats:
    """Give the share of each sender.

    >>> shares_of([Sender(name="x", share=0.75, retry_minutes=(15,), gives_up_after_hours=48)]).tolist()
    [0.75]
    """
    return np.array([sender.share for sender in senders])


def fates(pairs: Sequence[Held], senders: Sequence[Sender]) -> Fates:
    """Work out the outcome tables of pairs of Held for each sender; the delays are the same for all of them.

    What `verdict.follow` says of each minute, for all of them at once.

    >>> exchange = Sender(name="Exchange", share=1.0, retry_minutes=(15,), gives_up_after_hours=48)
    >>> table = fates([Held(block=5, throttle=20)], [exchange])
    >>> table.delay_minutes, table.counts[0].sum(axis=0).tolist(), table.delays[0].sum(axis=0).tolist()
    ((15, 30, 45), [[35.0, 20.0, 5.0, 0.0, 25.0]], [[15.0, 5.0, 0.0]])
    """
    block = np.array([minutes.block for minutes in pairs])[:, np.newaxis, np.newaxis]
    held = block + np.array([minutes.throttle for minutes in pairs])[:, np.newaxis, np.newaxis]
    tries = [_tries(sender) for sender in senders]
    delay_minutes = tuple(sorted({int(late) for waited, *_ in tries for late in waited[1:]}))
    counts = np.zeros((len(pairs), 60, len(senders), len(COUNTS)))
    delays = np.zeros((len(pairs), 60, len(senders), len(delay_minutes)))
    for at, (waited, number, n_tries) in enumerate(tries):
        minute = (np.arange(60)[:, np.newaxis] + waited) % 60
        is_settled = (minute < block) | (minute >= held)  # (pairs, 60, tries)
        settling = is_settled.argmax(axis=2)
        is_expired = ~is_settled.any(axis=2)
        is_rejected = ~is_expired & (minute[np.arange(60), settling] < block[:, :, 0])
        is_accepted = ~is_expired & ~is_rejected
        counts[:, :, at, AT_ONCE] = is_accepted & (settling == 0)
        counts[:, :, at, DELAYED] = is_accepted & (settling > 0)
        counts[:, :, at, REJECTED] = is_rejected
        counts[:, :, at, EXPIRED] = is_expired
        counts[:, :, at, RETRIES] = np.where(is_expired, n_tries, number[settling])
        for place in range(1, len(waited)):
            delays[:, :, at, delay_minutes.index(int(waited[place]))] = is_accepted & (settling == place)
    return Fates(counts=counts, delays=delays, delay_minutes=delay_minutes)


def _tries(sender: Sender) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Give the tries that can settle a message: minutes waited, number of tries before; and how many tries there are.

    All minutes of an hour are alike, so a try at a minute of the hour that an earlier try met settles nothing.
    """
    waited = [0]
    while True:
        step = sender.retry_minutes[min(len(waited) - 1, len(sender.retry_minutes) - 1)]
        if waited[-1] + step > sender.gives_up_after_hours * 60:
            break
        waited.append(waited[-1] + step)
    first = {late % 60: number for number, late in reversed(list(enumerate(waited)))}
    number = np.array(sorted(first.values()))
    return np.array(waited)[number], number, len(waited)
