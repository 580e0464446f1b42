"""What the tests of policies share: the file that shows every key, and the shortest one."""

EVERY_KEY = """
schema_version = 1
name        = "example-of-every-key"
title       = "..."
author      = "..."
reference   = "..."                     # where the numbers come from
baseline    = "none"                    # or another policy's name
count_private_updates = false
routes      = ["direct"]                # messages of other routes are reported, never subject

rules = [                               # vulnerable from the earliest date that a rule gives
  { name = "unsupported", since = "unsupported_since",   after_days = 0 },
  { name = "unpatched",   since = "missing_since",       after_days = 90 },
  { name = "exploited",   since = "exploited_since",     after_days = 14, when = "product <> 'Exchange Server SE'" },
  { name = "minimum",     since = "below_minimum_since", after_days = 0 },
]
minimum_builds = [ { product = "Exchange Server 2016", build = "15.1.2507.61", from = 2026-09-08 } ]

cohorts = [                             # first match wins; no match: reported, not enforced
  { name = "2013",  products = ["Exchange Server 2013"], starts_on = 2024-01-02 },
  { name = "pilot", products = ["Exchange Server 2016"], share_of_tenants = 0.05, starts_on = 2024-03-01 },
  { name = "2016",  products = ["Exchange Server 2016"], starts_on = 2024-04-01 }, # also: tenants = ["contoso.example"]
]
stages = [                              # days, then minutes of each hour; only the last has no days
  { days = 30 },                                  # report only
  { days = 10, throttle = 5 },
  { days = 10, throttle = 10 },
  { days = 10, throttle = 20 },
  { days = 10, throttle = 30, block = 5 },
  { days = 10, throttle = 30, block = 10 },
  { days = 10, throttle = 30, block = 20 },
  { block = 60 },
]
window            = "top of the hour"   # or "spread": each server's window starts at its own minute
clear_after_days  = 14
silent_after_days = 60                  # not seen this long: shown as "silent (perhaps retired)"

[notice]
announcement_url      = "https://..."
general_days_before   = 30              # to all, before a cohort starts
targeted_days_before  = 30              # to tenants with an unremediated server of that cohort
stage_days_before     = 0               # before each stage; 0: none
[pause]
days_per_year = 90                      # per tenant and calendar year

[[exemptions]]
tenant = "hospital.example"             # or server = "..."
reason = "..."
from   = 2026-12-01                     # optional; default: from the beginning
until  = 2027-03-31                     # the last exempt day; required

[[guardrails]]
measure = "lost_share_of_mail"          # measures name their base: _of_mail (all mail of the unit), _of_subject
per     = "day"                         # "day", "tenant", "total"
at_most = 0.02
min_messages = 1000                     # a unit with fewer is small; small units are pooled into one
max_unjudged_share = 0.05

[export]
service_name = "Exchange Online"        # in the replies
on_failure   = "accept"                 # or "defer"
valid_days   = 14                       # not-after
"""

SHORTEST = """
schema_version = 1
name    = "shortest"
rules   = [{ name = "unpatched", since = "missing_since" }]
cohorts = [{ name = "all", starts_on = 2026-01-01 }]
stages  = [{ block = 60 }]
"""
