"""What becomes of servers, tenants and mail day by day, from the spans in which servers meet a policy."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from enforcement.chance import Bools, Floats, Ints
from enforcement.lives import Lives, Spans
from enforcement.outlook import Outlook
from enforcement.pressure import ACCEPTED, FAR

# What is counted of each day; messages a day are expected ones. Delayed and lost are never added up. Tenants are hit
# when one of their servers is in a stage that delays or loses mail, whether it sends some on that day or not.
MEASURES: Final = ("vulnerable_servers", "vulnerable_tenants", "accepted_vulnerable", "delayed", "lost", "tenants_hit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedules:
    """What the ways to meet a policy do to mail: (rows, pieces), the first piece being the time before day 0.

    starts: the first day of each piece of like stage (days + 1: none); stages: its stage, the last place being
    accepted mail; piece_before: (rows, days + 2), the piece of the day before each; hit_from, hit_until: (runs, rows)
    the spans of days on which some mail is delayed or lost.
    """

    starts: Ints
    stages: Ints
    piece_before: npt.NDArray[np.int16]
    hit_from: Ints
    hit_until: Ints

    @classmethod
    def of(cls, look: Outlook) -> Self:
        """Cut the rows of an outlook's pressure where the stage changes."""
        table = look.pressure.stages
        n_rows, n_days = table.shape
        accepted = len(look.delayed) - 1
        stage = np.where(table == ACCEPTED, accepted, table).astype(np.int64)
        padded = np.concatenate([np.full((n_rows, 1), accepted), stage], axis=1)
        is_new = padded[:, 1:] != padded[:, :-1]
        piece = np.concatenate([np.zeros((n_rows, 1), dtype=np.int64), np.cumsum(is_new, axis=1)], axis=1)
        starts = np.full((n_rows, int(piece.max()) + 1), n_days)
        stages = np.full_like(starts, accepted)
        row, day = np.nonzero(is_new)
        starts[row, piece[row, day + 1]] = day
        stages[row, piece[row, day + 1]] = stage[row, day]
        starts[:, 0] = 0
        harm = ((look.delayed + look.lost) > 0)[stage]
        hit_from, hit_until = _runs(harm)
        return cls(
            starts=starts, stages=stages, piece_before=piece.astype(np.int16), hit_from=hit_from, hit_until=hit_until
        )


def _runs(marked: Bools) -> tuple[Ints, Ints]:
    """Give the first days, and those after the last, of each row's runs of marked days: (runs, rows), FAR: none."""
    n_rows = len(marked)
    edges = np.diff(np.pad(marked, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    found = []
    for sign in (1, -1):
        row, day = np.nonzero(edges == sign)
        count = np.bincount(row, minlength=n_rows)
        place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        runs = np.full((max(1, int(count.max(initial=0))), n_rows), FAR)
        runs[place, row] = day
        found.append(runs)
    return found[0], found[1]


def outcomes(look: Outlook, way: Schedules, lives: Lives) -> Floats:
    """Count each measure by day: (measures, days + 1)."""
    size = look.n_days + 1
    vulnerable, ways = lives.vulnerable, lives.ways
    delayed, lost = _harm(look, way, lives.ways, lives.row)
    first, last = _begins_and_ends(vulnerable, size)
    at_risk = _mail(look, vulnerable.from_day, look.volume, vulnerable.server)
    at_risk -= _mail(look, vulnerable.until_day, look.volume, vulnerable.server)
    hit = Spans.of(
        np.tile(ways.server, len(way.hit_from)),
        way.hit_from.take(lives.row, axis=1).ravel(),
        np.minimum(way.hit_until.take(lives.row, axis=1), ways.until_day).ravel(),
    )
    return np.stack([
        np.cumsum(first - last),
        _tenants(look, vulnerable),
        _on_weekday(look, np.cumsum(at_risk, axis=1)) - (lost - _lost_of_harmless(look, way, lives)),
        delayed,
        lost,
        _tenants(look, hit),
    ])  # fmt: skip


def _lost_of_harmless(look: Outlook, way: Schedules, lives: Lives) -> Floats:
    """Give the messages lost by day of servers that do not count as vulnerable: until their spans end, less before."""
    spans = lives.harmless
    if not len(spans.server):
        return np.zeros(look.n_days + 1)
    none = np.zeros_like(spans.from_day)
    until, before = (
        _harm(look, way, Spans(server=spans.server, from_day=none, until_day=day), lives.harmless_row)[1]
        for day in (spans.until_day, spans.from_day)
    )
    return until - before


def _harm(look: Outlook, way: Schedules, ways: Spans, row: Ints) -> tuple[Floats, Floats]:
    """Give the messages delayed and lost by day of servers on rows, from where these begin until their spans end."""
    size = look.n_days + 1
    n_rows, n_pieces = way.starts.shape
    n_stages = len(look.delayed)
    ends = np.flatnonzero(ways.until_day < size)
    last_row, last_day, server = row[ends], ways.until_day[ends], ways.server[ends]
    piece = last_row * n_pieces + way.piece_before.ravel().take(last_row * (size + 1) + last_day)
    end = last_day * n_stages + way.stages.ravel().take(piece)
    found = []
    shares = np.stack([look.delayed, look.lost])
    by_piece = shares[:, way.stages]
    change = np.diff(by_piece, axis=2, prepend=0.0)
    for weekday, volume in enumerate(look.subject):
        begun = np.bincount(row, weights=volume.take(ways.server), minlength=n_rows)
        mail = volume.take(server)
        ended = np.bincount(piece, weights=mail, minlength=n_rows * n_pieces).reshape(n_rows, n_pieces)
        # Those that end in a piece do not come to the next ones.
        come = begun[:, np.newaxis] - np.cumsum(ended, axis=1) + ended
        left = np.bincount(end, weights=mail, minlength=size * n_stages).reshape(size, n_stages) @ shares.T
        days = np.flatnonzero(look.weekdays == weekday)
        of_measure = []
        for place in range(2):
            gained = np.bincount(way.starts.ravel(), weights=(come * change[place]).ravel(), minlength=size + 1)
            of_measure.append(np.cumsum(gained[:size] - left[:, place])[days])
        found.append((days, of_measure))
    delayed, lost = np.zeros(size), np.zeros(size)
    for days, (late, gone) in found:
        delayed[days], lost[days] = late, gone
    return delayed, lost


def _begins_and_ends(spans: Spans, size: int) -> tuple[Ints, Ints]:
    begins = np.bincount(spans.from_day, minlength=size)
    return begins[:size], np.bincount(spans.until_day, minlength=size)[:size]


def _mail(look: Outlook, day: Ints, volume: Floats, server: Ints) -> Floats:
    """Sum up messages a day by weekday and by a day of their servers: (weekdays, days + 1)."""
    size = look.n_days + 1
    return np.stack([np.bincount(day, weights=each.take(server), minlength=size)[:size] for each in volume])


def _on_weekday(look: Outlook, by_weekday: Floats) -> Floats:
    """Take each day's own weekday."""
    return by_weekday[look.weekdays, np.arange(by_weekday.shape[1])]


def _tenants(look: Outlook, spans: Spans) -> Ints:
    """Count the tenants with a server in a span, by day."""
    size = look.n_days + 2
    tenant = look.tenant.take(spans.server)
    # The spans of one server do not meet; those of several servers of a tenant may.
    several = np.flatnonzero(look.has_several.take(tenant))
    changes = np.bincount(spans.from_day, minlength=size) - np.bincount(spans.until_day, minlength=size)
    if len(several):
        from_day, until_day = spans.from_day[several], spans.until_day[several]
        changes -= np.bincount(from_day, minlength=size) - np.bincount(until_day, minlength=size)
        changes += _unions(tenant[several], from_day, until_day, size)
    return np.cumsum(changes)[: size - 1]


def _unions(tenant: Ints, from_day: Ints, until_day: Ints, size: int) -> Ints:
    """Count by day how many tenants come to have a server in a span, less those that come to have none."""
    key = (tenant * size + from_day) * size + until_day
    key = np.sort(key.astype(np.uint32) if int(tenant.max()) + 1 < 2**32 // size**2 else key).astype(np.int64)
    start = key // size
    until = key - start * size
    tenant = start // size
    last = np.maximum.accumulate(tenant * size + until)
    is_new = np.append(True, start[1:] > last[:-1])
    is_last = np.append(is_new[1:], True)
    begins = np.bincount((start - tenant * size)[is_new], minlength=size)
    return begins - np.bincount((last - tenant * size)[is_last], minlength=size)
