"""Received lines: every shape that Exchange writes, whose hand-over it is, by which route, and what cannot be used."""

import re
import time
from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from enforcement import received
from enforcement.builds import Hop
from enforcement.received import HandOver, Rejected, by_name, own_hosts, read_chain
from enforcement.received_time import seconds_of

SMTP, MAPI = Hop.SMTP, Hop.MAPI


def hops(*lines: str) -> list[tuple[str, str | None, str | None, datetime | None]]:
    """Give kind, server, build and time of each hop."""
    return [
        (
            str(stamp.hop),
            stamp.server,
            str(stamp.build) if stamp.build else None,
            HandOver(stamp, seconds, "").sent_at if seconds is not None else None,
        )
        for _, stamp, seconds in read_chain([f"Received: {line}" for line in lines])[0]
    ]


def found(*lines: str, own: tuple[str, ...] = ()) -> tuple[str | None, str] | str:
    """Give server and route of the hand-over, or the reason why there is none."""
    _, handed = read_chain([f"Received: {line}" for line in lines], own_hosts(own))
    return handed.reason if isinstance(handed, Rejected) else (handed.stamp.server, handed.route)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # 2007 and 2010: short, with and without TLS
        (
            (
                "from a.example (192.0.2.1) by b.example (192.0.2.2) with Microsoft SMTP Server id 8.3.298.1;"
                " Wed, 21 Aug 2013 18:17:31 -0700"
            ),
            (SMTP, "b.example", "8.3.298.1", datetime(2013, 8, 22, 1, 17, 31)),
        ),
        (
            (
                "from a.example (192.0.2.1) by b.example (192.0.2.2) with Microsoft SMTP Server (TLS) id 8.2.254.0;"
                " Tue, 19 Oct 2010 11:50:44 +0200"
            ),
            (SMTP, "b.example", "8.2.254.0", datetime(2010, 10, 19, 9, 50, 44)),
        ),
        (
            (
                "from a.example (192.0.2.1) by b.example (192.0.2.2) with Microsoft SMTP Server (TLS) id 14.3.439.0;"
                " Tue, 28 Jul 2020 09:07:58 -0700"
            ),
            (SMTP, "b.example", "14.3.439.0", datetime(2020, 7, 28, 16, 7, 58)),
        ),
        # mailbox submission: padded
        (
            (
                "from a.example ([169.254.3.69]) by b.example ([169.254.5.251]) with mapi id 14.03.0439.000;"
                " Fri, 23 Aug 2019 10:47:58 -0700"
            ),
            (MAPI, "b.example", "14.3.439.0", datetime(2019, 8, 23, 17, 47, 58)),
        ),
        (
            (
                "from a.example ([fe80::1]) by a.example ([fe80::1%2]) with mapi id 15.02.0858.010;"
                " Thu, 3 Jun 2021 18:39:52 +0800"
            ),
            (MAPI, "a.example", "15.2.858.10", datetime(2021, 6, 3, 10, 39, 52)),
        ),
        # 2013 and later: the component, the TLS version and cipher, folds anywhere
        (
            (
                "from a.example (192.0.2.1) by B.Example (192.0.2.2) with Microsoft SMTP Server (TLS) id 15.0.1367.3"
                " via Mailbox Transport; Wed, 10 Jul 2019 16:45:46 +0000"
            ),
            (SMTP, "b.example", "15.0.1367.3", datetime(2019, 7, 10, 16, 45, 46)),
        ),
        (
            (
                "from a.example (192.0.2.1) by b.example. (192.0.2.2) with Microsoft SMTP Server id 15.0.1497.2"
                " via Frontend Transport; Wed, 25 Mar 2020 14:55:05 -0700"
            ),
            (SMTP, "b.example", "15.0.1497.2", datetime(2020, 3, 25, 21, 55, 5)),
        ),
        (
            (
                "from a.example (192.0.2.1) by b.example\n (192.0.2.2) with Microsoft SMTP Server (version=TLS1_2,\n"
                " cipher=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256) id 15.1.2507.39; Tue, 8 Apr 2025 08:54:43 -0500"
            ),
            (SMTP, "b.example", "15.1.2507.39", datetime(2025, 4, 8, 13, 54, 43)),
        ),
        (
            (
                "from a.example (192.0.2.1) by b.example (192.0.2.2) with Microsoft SMTP Server (version=TLS1_2,"
                " cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id\n 15.2.2562.49; Mon, 21 Sep 2026 10:45:16 +0300    "
            ),
            (SMTP, "b.example", "15.2.2562.49", datetime(2026, 9, 21, 7, 45, 16)),
        ),
        (
            (
                "from a.example (192.0.2.1) by b.example (192.0.2.2) with Microsoft SMTP\n\tServer"
                " (version=TLS1_2, cipher=TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384_P256) id 15.2.792.3; \n Thu, 17 Mar\n"
                " 2022 23:09:19\n +0800"
            ),
            (SMTP, "b.example", "15.2.792.3", datetime(2022, 3, 17, 15, 9, 19)),
        ),
        (
            (
                "from a.example (fe80::1%7) by b.example (fe80::2%7) with\r\n Microsoft SMTP Server (TLS) id"
                " 15.01.2507.035; 3 Jun 2021 18:39:52 GMT"
            ),
            (SMTP, "b.example", "15.1.2507.35", datetime(2021, 6, 3, 18, 39, 52)),
        ),
        # without a `from`, without addresses, a name that is an address, a comment in the date
        (
            "by [192.0.2.9] with mapi id 15.01.2507.035; Tue, 8 Apr 2025 08:54:43 -0700 (PDT)",
            (MAPI, "192.0.2.9", "15.1.2507.35", datetime(2025, 4, 8, 15, 54, 43)),
        ),
    ],
)
def test_shapes_that_exchange_writes(line: str, expected: tuple[Hop, str, str, datetime]) -> None:
    """A hop's kind, name, build and time are read from every shape seen in real mail, folded or not."""
    kind, *rest = expected
    assert hops(line) == hops(" ".join(line.split())) == [(str(kind), *rest)]


@pytest.mark.parametrize(
    "line",
    [
        # 2000 and 2003 write no build; 2007 submits without one
        "from a.example ([192.0.2.1]) by b.example with Microsoft SMTPSVC(6.0.3790.3959); Thu, 6 Sep 2012 08:17:06 GMT",
        "from a.example ([192.0.2.1]) by a.example ([192.0.2.1]) with mapi; Thu, 6 Sep 2012 08:17:06 -0400",
        # an id is not a build
        "from a.example (a.example [192.0.2.1]) by b.example (Postfix) with ESMTPS id 15.1.2507.39; Tue, 8 Apr 2025",
        "from a.example ([192.0.2.1] helo=x) by b.example with esmtps (Exim 4.96) id 1qXyZa-0001AB-2C; Tue, 8 Apr 2025",
        # said of somebody else: in a comment, in a greeting, as an address
        "from x (x by y with mapi id 15.1.2507.39) by b.example (Postfix) with ESMTP id 9; 8 Apr 2025 08:54:43 GMT",
        (
            "from x by y with mapi id 15.1.2507.39 (unknown [192.0.2.1]) by b.example (Postfix) with ESMTP id 9;"
            " Tue, 8 Apr 2025 08:54:43 GMT"
        ),
        (
            'from x by b.example with ESMTP id 9 for <"by y.example with mapi id 15.1.2507.39"@b.example>;'
            " Tue, 8 Apr 2025 08:54:43 GMT"
        ),
    ],
)
def test_lines_of_others_are_no_hops(line: str) -> None:
    """Only what an Exchange server says of itself, with a build, is a hop."""
    assert hops(line) == []


MX = "mx.example"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from a (a [192.0.2.1])\n\tby mx.example (Postfix) with ESMTPS id 48744779C7\n\tfor <u@x.example>; ", MX),
        ("from [192.0.2.1] (helo=a) by mx.example with esmtps (Exim 4.96)\n\t(envelope-from <by@x>) id 1q;", MX),
        ("from a (a [192.0.2.1]) by mx.example (8.14.4/8.14.4) with ESMTP id 1 for <u@x>; ", MX),
        ("from a ([192.0.2.1])\n  by mx.example with ESMTP/TLS/ECDHE-RSA-AES256; 30 Jan 2024 00:44:07 -0800", MX),
        ("(user@x.example) by mx.example via listexpand\n id S232383AbjG0Jlk (ORCPT <rfc822;u@x>);", MX),
        ('from a ([192.0.2.1]:5 "EHLO by x" rhost-flags-OK) by mx.example\n with ESMTP id 3 (ORCPT <rfc822;u@x>);', MX),
        ("from unknown (HELO a) (192.0.2.1)\n  by mx.example with SMTP; 12 Jan 2019 00:00:00 -0000", MX),
        ("from by (unknown [192.0.2.1]) by mx.example (Postfix) with ESMTP id 3", MX),
        ("from a:) (unknown [192.0.2.1]) by mx.example (Postfix) with ESMTP id 3; (x", MX),
        ("from a :( (unknown [192.0.2.1]) by mx.example (Postfix) with ESMTP id 3;", MX),
        ("FROM a (192.0.2.1) BY mx.example WITH smtp;", MX),
        ("by 2002:a05:6a10:17d3:0:0:0:0 with SMTP id hz19csp99; ", "2002:a05:6a10:17d3:0:0:0:0"),
        ("(qmail 1234 invoked by uid 89); 12 Jan 2019 00:00:00 -0000", None),
        ("", None),
    ],
)
def test_whose_line_it_is(line: str, name: str | None) -> None:
    """The name behind the last `by` is read from lines of any mail server; comments, greetings, addresses have none."""
    assert by_name(f"Received: {line}") == name


TIME = "; Tue, 8 Apr 2025 08:54:43 +0000"
POSTFIX = "from x (x [192.0.2.1]) by relay.example (Postfix) with ESMTP id 9" + TIME
OWN = "from x (x [192.0.2.1]) by in1.mx.example (Postfix) with ESMTP id 9" + TIME
OWN_EXCHANGE = "from x (192.0.2.1) by in2.mx.example (192.0.2.2) with Microsoft SMTP Server id 15.2.2562.49" + TIME
CLOUD = "from x (192.0.2.1) by x.prod.example (192.0.2.2) with Microsoft SMTP Server id 15.20.7228.32" + TIME
CHINA = "from x (192.0.2.1) by x.partner.example (192.0.2.2) with mapi id 15.21.0092.005" + TIME
EX1 = "from x (192.0.2.1) by ex1.example (192.0.2.2) with Microsoft SMTP Server id 15.1.2507.39" + TIME
EX2 = "from x (192.0.2.1) by ex2.example (192.0.2.2) with Microsoft SMTP Server id 15.2.792.3" + TIME
ONLY_MAPI = "from x (192.0.2.1) by ex3.example (192.0.2.2) with mapi id 15.01.2507.039" + TIME
NO_HOP = "no hop of an on-premises Exchange server"
MAPI_ONLY = "only mapi hops of on-premises Exchange servers"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([EX1, EX2], ("ex1.example", "direct")),
        ([POSTFIX, EX1, EX2], ("ex1.example", "relayed")),
        ([ONLY_MAPI, EX1], ("ex1.example", "relayed")),
        ([CLOUD, EX1], ("ex1.example", "through cloud")),
        ([CHINA, EX1], ("ex1.example", "through cloud")),
        ([POSTFIX, CLOUD, POSTFIX, EX1], ("ex1.example", "through cloud")),
        ([EX1, CLOUD], ("ex1.example", "direct")),
        ([POSTFIX, ONLY_MAPI], MAPI_ONLY),
        ([POSTFIX, CLOUD], NO_HOP),
        ([], "no Received line"),
    ],
)
def test_hand_over_without_own_hosts(lines: list[str], expected: tuple[str, str] | str) -> None:
    """The topmost smtp hop on premises handed the mail over; what stands above it makes the route."""
    assert found(*lines) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([OWN, EX1], ("ex1.example", "direct")),
        ([OWN, OWN, EX1, EX2], ("ex1.example", "direct")),
        ([POSTFIX, OWN, EX1], ("ex1.example", "direct")),  # the archive's own lines above do not count
        ([OWN, POSTFIX, EX1], ("ex1.example", "relayed")),
        ([OWN, ONLY_MAPI, EX1], ("ex1.example", "relayed")),
        ([OWN, CLOUD, EX1], ("ex1.example", "through cloud")),
        ([CLOUD, OWN, POSTFIX, EX1], ("ex1.example", "relayed")),  # that cloud hop is above
        ([EX1, OWN, EX2], ("ex2.example", "direct")),  # so is that server
        ([OWN, EX1, OWN, EX2], ("ex1.example", "direct")),  # the second run may be forged
        ([OWN, POSTFIX, OWN, EX2], ("ex2.example", "relayed")),
        ([OWN_EXCHANGE, EX1], ("ex1.example", "direct")),  # own servers hand nothing over
        ([OWN, OWN_EXCHANGE, OWN], "no Received line below the own lines"),
        ([EX1, OWN], "no Received line below the own lines"),
        ([OWN, POSTFIX, CLOUD], f"{NO_HOP} below the own lines"),
        ([EX1, OWN, POSTFIX, ONLY_MAPI], f"{MAPI_ONLY} below the own lines"),
        ([POSTFIX, EX1], "no line of an own host"),
        ([], "no line of an own host"),
    ],
)
def test_hand_over_below_own_lines(lines: list[str], expected: tuple[str, str] | str) -> None:
    """With own hosts, the hand-over is the topmost smtp hop on premises below the first unbroken run of own lines."""
    assert found(*lines, own=("*.mx.example",)) == expected


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("in1.mx.example",), True),
        (("IN?.MX.example.",), True),
        (("in[0-9].mx.example",), True),
        (("*",), True),
        (("other.example", "*.mx.example"), True),
        (("*.example.mx",), False),
        (("mx.example",), False),
        (("*.mx.exampl",), False),
        (("in[!1].mx.example",), False),
    ],
)
def test_own_patterns(patterns: tuple[str, ...], expected: bool) -> None:  # noqa: FBT001 - a column of the table
    """A pattern is a shell glob on the whole name in lower case."""
    assert (found(OWN, EX1, own=patterns) != "no line of an own host") is expected


@pytest.mark.parametrize("pattern", ["", " ", "a b", "a\nb", "é.example", "x" * 256])
def test_own_patterns_that_name_no_host(pattern: str) -> None:
    """A pattern that no host name can match is refused in one line."""
    with pytest.raises(ValueError, match="not a pattern of host names") as raised:
        own_hosts([pattern])
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (EX1.replace("15.1.2507.39", "15.1.99999999999.1"), "build not readable: '15.1.99999999999.1'"),
        (EX1.replace("15.1.2507.39", "someone@here.example"), "build not readable: '…@here.example'"),
        (EX1.replace("ex1.example", 'ex"1'), "server name not usable: 'ex\"1'"),
        (EX1.replace("ex1.example", "ex\x001"), "server name not usable: 'ex\\x001'"),
        (EX1.replace("ex1.example", "e" * 2000), f"server name not usable: '{'e' * 80}…'"),
        (EX1.replace("2025", "0000"), "time not readable: 'Tue, 8 Apr 0000 08:54:43 +0000'"),
        (EX1.replace("2025", "9999"), "time not readable: 'Tue, 8 Apr 9999 08:54:43 +0000'"),
        (EX1.replace("8 Apr", "31 Feb"), "time not readable: 'Tue, 31 Feb 2025 08:54:43 +0000'"),
        (EX1.replace(TIME, ""), "time not readable: ''"),
        (EX1.replace(TIME, ";\n soon"), "time not readable: 'soon'"),
    ],
)
def test_a_hand_over_that_cannot_be_used(line: str, reason: str) -> None:
    """An unreadable build, name or time rejects the mail, with the value; no server below is taken instead."""
    assert found(POSTFIX, line, EX2) == reason


def test_sightings_of_what_cannot_be_used() -> None:
    """Hops below are read whether the mail is rejected or not; what cannot be read of a hop is None."""
    unreadable = EX1.replace("2025", "0000")
    at = datetime(2025, 4, 8, 8, 54, 43)
    assert hops(unreadable, EX2, ONLY_MAPI) == [
        ("smtp", "ex1.example", "15.1.2507.39", None),
        ("smtp", "ex2.example", "15.2.792.3", at),
        ("mapi", "ex3.example", "15.1.2507.39", at),
    ]


# Fragments that a line may be made of, common and hostile ones; and the gaps between them.
_FRAGMENTS = st.sampled_from(
    [
        "from", "by", "BY", "with", "Microsoft", "SMTP", "Server", "mapi", "id", "via", "Frontend", "Transport", ";",
        "(", ")", "()", "(TLS)", "(a (b) c)", '"', '"a b"', "<", ">", "<by x>", "ex1.example", "b", "15.1.2507.39",
        "15.01.2507.039", "15.20.1.1", "9.9.9.9.9", "Tue, 8 Apr 2025 08:54:43 -0500", "by ex2.example (192.0.2.1)",
        "from a (192.0.2.1)", "with Microsoft SMTP Server (TLS) id 15.1.2507.39", "with mapi id 15.01.2507.039",
        "; Tue, 8 Apr 2025 08:54:43 -0500", "(x;y)", "\x00", "é", "x" * 300,
    ]
)  # fmt: skip
_GAPS = st.sampled_from([" ", " ", " ", "", "\n ", "\n\t", "  ", "\t", " \n ", "\r\n "])
_LINES = st.lists(st.tuples(_FRAGMENTS, _GAPS), max_size=14).map(lambda parts: "".join(a + b for a, b in parts))


@given(line=_LINES)
@example("from a (x) by by (x) with mapi id 15.1.2507.39; Tue, 8 Apr 2025 08:54:43 -0500")
@example("from a (x) by b (x) with mapi id 15.1.2507.39; Tue, 8 Apr 2025 08:54:43 -0500 (a;b)")
@example("from a ( by b (x) with mapi id 15.1.2507.39; Tue, 8 Apr 2025 08:54:43 -0500)")
def test_the_quick_reading_is_the_careful_one(line: str) -> None:
    """A line that fits the quick patterns gives what reading it word by word gives."""
    line = f"Received: {line}"
    words = received._words(line)
    build = received._build(words.build)
    server = None if build and build.is_cloud else received._server(words.name)
    careful = [] if words.hop is None else [(words.hop, server, build)]
    quick = [] if (hop := received._read_hop(line)) is None else [hop]
    assert [(stamp.hop, stamp.server, stamp.build) for _, stamp, _ in quick] == careful
    assert all(seconds == seconds_of(words.time) for _, stamp, seconds in quick if not stamp.is_cloud)
    assert by_name(line) == (words.name or None)


@given(line=st.sampled_from([EX1, EX2, ONLY_MAPI, CLOUD, POSTFIX, OWN_EXCHANGE]), data=st.data())
def test_folding_changes_nothing(line: str, data: st.DataObject) -> None:
    """A line says the same wherever it is folded."""
    blanks = [match.start() for match in re.finditer(" ", line)]
    folds = data.draw(st.sets(st.sampled_from(blanks)))
    fold = data.draw(st.sampled_from(["\n ", "\n\t", "\n  ", "\r\n ", " \n "]))
    folded = "".join(fold if position in folds else c for position, c in enumerate(line))
    assert hops(folded) == hops(line)
    assert by_name(f"Received: {folded}") == by_name(f"Received: {line}")


@given(text=st.text(alphabet=st.characters(max_codepoint=255)))
def test_any_text_is_read(text: str) -> None:
    """Whatever a line holds, it is read or it is no hop: nothing is raised."""
    read_chain([f"Received: {text}", f"Received: by x with mapi id {text}"], own_hosts(["*.example"]))


@given(line=_LINES, pattern=st.sampled_from(["*", "ex?.example", "*.example", "[be]*", "b"]))
def test_own_lines_are_never_missed(line: str, pattern: str) -> None:
    """The quick look at a line misses no own name that reading it would find."""
    hosts = own_hosts([pattern])
    assert hosts is not None
    line = f"Received: {line}"
    name = by_name(line)
    assert hosts.wrote(line) == (name is not None and hosts.has(received._server(name) or name.lower()))


_HOSTILE = {
    "blanks": " " * 100,
    "folds": "\n ",
    "opened": "(",
    "closed": ")",
    "nested": "(()",
    "semicolons": ";",
    "quotes": '"',
    "quotes apart": '" ',
    "angles": "<",
    "angles apart": "< ",
    "quotes and angles": '<"',
    "letters": "x",
    "by": "by ",
    "by and paren": "by (",
    "with mapi id": "by x with mapi id ",
    "from by": "from x by ",
    "exchange": "from x (x) by x (x) with Microsoft SMTP Server (x) id 15.1.1.1 ",
    "date": "; Tue, 8 Apr 2025 08:54:43 -0500 ",
    "days": " Tue,",
    "local parts": "x.",
    "at signs": "@",
}


@pytest.mark.parametrize("name", sorted(_HOSTILE))
@pytest.mark.parametrize(
    "frame",
    [
        "Received: {}",
        f"Received: from x (x) by {{}} {EX1}",
        f"Received: {EX1[:-6]}{{}}",
        "Received: by x with mapi id {}; {}",
    ],
)
def test_hostile_lines_take_linear_time(name: str, frame: str) -> None:
    """A line of a million characters is read in about a second, whatever is repeated in it (own hosts, excerpt too)."""
    line = frame.replace("{}", _HOSTILE[name] * (500_000 // len(_HOSTILE[name])))
    start = time.process_time()
    read_chain([line, "Received: by x with mapi id 15.1.2507.39"], own_hosts(["*x*x*x*x*.example"]))
    assert time.process_time() - start < 5
