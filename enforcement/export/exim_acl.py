r"""The export in Exim's own language: an ACL that looks the tables up and decides. It is the same for every policy.

A Received line means here what `received` says it means, as far as Exim can read it; the tests name the difference.
"""

from typing import Final

LONGEST_LINE: Final = 4_000  # no line that Exchange writes is as long; the time that a pattern takes is bounded

# The grammar of received.py, in the regular expressions that Exim has (PCRE).
_BLANK: Final = r"[ \t\r\n;]"
_WORD: Final = r'(?:"[^"]*+"|<[^<>]*+>|[^ \t\r\n;])++'
_AFTER: Final = rf"{_BLANK}++(?=[^ \t\r\n;])"
# A part of a build: at most five digits, at most 65535.
_PART: Final = r"(?=\d{1,5}(?!\d))0*+(?:6553[0-5]|655[0-2]\d|65[0-4]\d{2}|6[0-4]\d{3}|[1-5]\d{4}|\d{1,4})?(?!\d)"
# 15.20 and above: Exchange Online itself.
_CLOUD: Final = rf"(?=\d{{1,5}}\.)0*+15\.(?=0*+(?:[2-9]\d|[1-9]\d{{2,4}})\.)(?:{_PART}\.){{2}}{_PART}(?={_BLANK}|\z)"
_COMMENT: Final = r"(\((?:[^()]++|(?1))*+\))"
_TIME: Final = r";[^;]*+\z"
# $1: the name behind the last `by`; $2: the build of an smtp hop that is not in the cloud.
_HOP: Final = (
    rf"\A(?>{_BLANK}*+(?:{_WORD}{_BLANK}++)*(?i:by){_AFTER})({_WORD}){_BLANK}++(?i:with){_BLANK}++"
    rf"Microsoft{_BLANK}++SMTP{_BLANK}++Server(?:{_BLANK}++(?!(?i:id){_AFTER}){_WORD})*+"
    rf"{_BLANK}++(?i:id){_BLANK}++(?!{_CLOUD})({_WORD})"
)
_BUILD: Final = rf"\A(?:{_PART}\.){{3}}{_PART}\z"
_HOST: Final = r"\A(?=.{1,255}\z)(\[)?([a-z0-9_-]++(?:\.[a-z0-9_-]++)*+)(?(1)\])\z"
_ADDRESS: Final = r"\A(?=.{1,255}\z)\[?(?:ipv6:)?([0-9a-f.]*+:[0-9a-f:.]*+)(?:%[a-z0-9_.-]{1,32}+)?\]?\z"

_TEXT: Final = r"""
# Written by `enforcement export`; the same for every policy. What changes is in tables/ and in enforcement.conf.
# Ask it in the ACL of DATA, where the header is known:
#   require acl = enforcement_data

enforcement_data:
  # A list of lines, of which the first is the one that this Exim has just put in.
  warn    set acl_m_enf_lines = <: $lh_received:
          set acl_m_enf_address = $sender_host_address
          set acl_m_enf_certificate =
          set acl_m_enf_now = $tod_epoch
.ifdef _HAVE_TLS
  warn    condition = ${if def:tls_in_peercert}
          set acl_m_enf_certificate = ${lc:${sha256:$tls_in_peercert}}
.endif
  warn    acl = enforcement_decide
  # What looks like damage may have been an export that was installed in this moment.
  warn    condition = ${if eq{$acl_m_enf_reason}{failure}}
          acl = enforcement_decide
  warn    condition = ${if !eq{$acl_m_enf_reason}{no_exchange_server}}
          logwrite = enforcement1 serial=$acl_m_enf_serial verdict=$acl_m_enf_verdict reason=$acl_m_enf_reason \
                     stage=$acl_m_enf_stage cohort=$acl_m_enf_cohort server=$acl_m_enf_server build=$acl_m_enf_build \
                     at=$acl_m_enf_now
  warn    condition = ${if eq{$acl_m_enf_reason}{failure}}
          logwrite = :main,panic: enforcement tables missing or damaged: ENFORCEMENT_DIR/tables/$acl_m_enf_bad \
                     (verdict: $acl_m_enf_verdict; install the export again, readable for uid $exim_uid)
  deny    condition = ${if eq{$acl_m_enf_verdict}{reject}}
          message = $acl_m_enf_reply
          log_message = enforcement: $acl_m_enf_reason
  defer   condition = ${if eq{$acl_m_enf_verdict}{defer}}
          message = $acl_m_enf_reply
          log_message = enforcement: $acl_m_enf_reason
  accept

# From acl_m_enf_lines, _address, _certificate and _now to acl_m_enf_verdict, _reply, _reason, _serial, _stage, _cohort,
# _server and _build. The reason stays `failure` until a table that can be trusted has given another.
enforcement_decide:
  warn    set acl_m_enf_reason = failure
          set acl_m_enf_verdict = ENFORCEMENT_ON_FAILURE
          set acl_m_enf_reply = ENFORCEMENT_FAILURE_REPLY
          set acl_m_enf_bad = meta
          set acl_m_enf_serial = -
          set acl_m_enf_stage = -
          set acl_m_enf_cohort = -
          set acl_m_enf_server = -
          set acl_m_enf_build = -
          set acl_m_enf_meta = ${acl{enforcement_table}{meta}}
  accept  condition = ${if eq{$acl_m_enf_meta}{}}
  warn    set acl_m_enf_bad =
          set acl_m_enf_verdict = ${extract{on_failure}{$acl_m_enf_meta}}
          set acl_m_enf_serial = ${extract{serial}{$acl_m_enf_meta}}
          set acl_m_enf_day = ${eval:$acl_m_enf_now/86400}
  accept  condition = ${if >{$acl_m_enf_day}{${extract{not_after}{$acl_m_enf_meta}}}}
          set acl_m_enf_reason = expired
          set acl_m_enf_verdict = accept
  accept  condition = ${if <{$acl_m_enf_day}{${extract{valid_from}{$acl_m_enf_meta}}}}
          set acl_m_enf_reason = not_yet_valid
          set acl_m_enf_verdict = accept

  # The topmost line; a blank in a name or a build makes it none.
  warn    set acl_m_enf_top = ${listextract{2}{$acl_m_enf_lines}}
          set acl_m_enf_hop =
  accept  condition = ${if >{${strlen:$acl_m_enf_top}}{@LONGEST_LINE@}}
          condition = ${if match{$acl_m_enf_top}{Microsoft}}
          set acl_m_enf_reason = unknown_build
          set acl_m_enf_verdict = accept
  warn    condition = ${if match{$acl_m_enf_top}{Microsoft}}
          set acl_m_enf_hop = ${if match{${sg{${sg{$acl_m_enf_top}{\N@COMMENT@\N}{ }}}{\N@TIME@\N}{}}}{\N@HOP@\N}\
                              {${tr{$1}{ \t\r\n}{????}} ${tr{$2}{ \t\r\n}{????}}}}
  accept  condition = ${if eq{$acl_m_enf_hop}{}}
          set acl_m_enf_reason = ${if forany{$acl_m_enf_lines}\
                                 {and{{match{$item}{Microsoft}}{<{${strlen:$item}}{@LONGEST_LINE@}}\
                                 {match{${sg{${sg{$item}{\N@COMMENT@\N}{ }}}{\N@TIME@\N}{}}}{\N@HOP@\N}}}}\
                                 {not_direct}{no_exchange_server}}
          set acl_m_enf_verdict = accept

  # Who it is: by its certificate, its address, its network (the longest prefix first), else as it calls itself.
  warn    set acl_m_enf_found =
  warn    condition = ${if and{{def:acl_m_enf_certificate}{!eq{$acl_m_enf_certificate}{}}\
                        {eq{${extract{certificates}{$acl_m_enf_meta}}}{1}}}}
          set acl_m_enf_found = ${acl{enforcement_row}{c:$acl_m_enf_certificate}}
  warn    condition = ${if and{{eq{$acl_m_enf_found}{}}{isip{$acl_m_enf_address}}\
                        {eq{${extract{addresses}{$acl_m_enf_meta}}}{1}}}}
          set acl_m_enf_found = ${acl{enforcement_row}{a:${mask:$acl_m_enf_address/\
                                ${if isip4{$acl_m_enf_address}{32}{128}}}}}
  warn    condition = ${if and{{eq{$acl_m_enf_found}{}}{isip{$acl_m_enf_address}}}}
          set acl_m_enf_found = ${reduce{<, ${extract{${if isip4{$acl_m_enf_address}{networks4}{networks6}}}\
                                {$acl_m_enf_meta}}}{}\
                                {${if eq{$value}{}{${acl{enforcement_row}\
                                {n:${mask:$acl_m_enf_address/$item}}}}{$value}}}}
  warn    condition = ${if eq{$acl_m_enf_found}{}}
          set acl_m_enf_name = ${sg{${lc:${extract{1}{ }{$acl_m_enf_hop}}}}{\N\.\z\N}{}}
          set acl_m_enf_found = ${if match{$acl_m_enf_name}{\N@HOST@\N}{$2}\
                                {${if match{$acl_m_enf_name}{\N@ADDRESS@\N}\
                                {${if isip6{$1}{${ipv6norm:$1}}}}}}}
          # `ipv6norm` (of 4.96) drops what stands behind it, and makes `:` of `::`.
          set acl_m_enf_found = ${if eq{$acl_m_enf_found}{:}{::}{$acl_m_enf_found}}
          set acl_m_enf_found = $acl_m_enf_found${if isip6{$acl_m_enf_found}\
                                {${sg{$acl_m_enf_name}{\N\A[^%]*+|\]\z\N}{}}}}
  warn    condition = ${if !eq{$acl_m_enf_found}{}}
          set acl_m_enf_server = $acl_m_enf_found
  warn    set acl_m_enf_name = ${extract{2}{ }{$acl_m_enf_hop}}
          condition = ${if match{$acl_m_enf_name}{\N@BUILD@\N}}
          set acl_m_enf_build = ${sg{$acl_m_enf_name}{\N(?<!\d)0+(?=\d)\N}{}}
  accept  condition = ${if !eq{$acl_m_enf_bad}{}}

  # What its build is, and whether that is vulnerable today.
  warn    set acl_m_enf_row = ${acl{enforcement_row}{b:$acl_m_enf_build}}
  accept  condition = ${if !eq{$acl_m_enf_bad}{}}
  accept  condition = ${if eq{$acl_m_enf_row}{}}
          set acl_m_enf_reason = unknown_build
          set acl_m_enf_verdict = accept
  accept  condition = ${if <{$acl_m_enf_day}{${extract{2}{,}{$acl_m_enf_row}}}}
          set acl_m_enf_reason = not_vulnerable
          set acl_m_enf_verdict = accept
  warn    set acl_m_enf_product = ${extract{1}{,}{$acl_m_enf_row}}

  # Its server, the cohort that takes it in, and the stage of the day. An IPv6 address is looked up written in full.
  warn    set acl_m_enf_row = ${acl{enforcement_row}{s:\
                              ${if and{{match{$acl_m_enf_found}{\N\A[0-9a-f:]+\z\N}}{isip6{$acl_m_enf_found}}}\
                              {${mask:$acl_m_enf_found/128}}{$acl_m_enf_found}}}}
  accept  condition = ${if !eq{$acl_m_enf_bad}{}}
  accept  condition = ${if eq{$acl_m_enf_row}{}}
          set acl_m_enf_reason = new_detection
          set acl_m_enf_verdict = accept
  warn    set acl_m_enf_number = ${extract{$acl_m_enf_product}{/}{${extract{1}{|}{$acl_m_enf_row}}}}
          set acl_m_enf_name = ${if eq{$acl_m_enf_number}{}{}\
                               {${extract{$acl_m_enf_number}{/}{${extract{cohorts}{$acl_m_enf_meta}}}}}}
  accept  condition = ${if or{{eq{$acl_m_enf_name}{}}{<{$acl_m_enf_day}{${extract{1}{,}{$acl_m_enf_name}}}}}}
          set acl_m_enf_reason = no_cohort
          set acl_m_enf_verdict = accept
  warn    set acl_m_enf_cohort = ${extract{2}{,}{$acl_m_enf_name}}
          set acl_m_enf_span = ${filter{<; ${extract{3}{|}{$acl_m_enf_row}}}\
                               {and{{eq{${extract{1}{,}{$item}}}{$acl_m_enf_number}}\
                               {>={$acl_m_enf_day}{${extract{2}{,}{$item}}}}\
                               {<{$acl_m_enf_day}{${extract{3}{,}{$item}}}}}}}
  accept  condition = ${if eq{$acl_m_enf_span}{}}
          set acl_m_enf_reason = new_detection
          set acl_m_enf_verdict = accept
  warn    set acl_m_enf_stage = ${extract{4}{,}{$acl_m_enf_span}}
  accept  condition = ${if eq{${extract{7}{,}{$acl_m_enf_span}}}{0}}
          set acl_m_enf_reason = standing_still
          set acl_m_enf_verdict = accept

  # The verdict of the minute: first the blocked minutes of the window, then the throttled ones.
  warn    set acl_m_enf_k = ${eval:($acl_m_enf_now/60%60+60-${extract{2}{|}{$acl_m_enf_row}})%60}
          set acl_m_enf_block = ${extract{5}{,}{$acl_m_enf_span}}
          set acl_m_enf_throttle = ${extract{6}{,}{$acl_m_enf_span}}
          set acl_m_enf_reason = enforced
          set acl_m_enf_verdict = ${if <{$acl_m_enf_k}{$acl_m_enf_block}{reject}\
                                  {${if <{$acl_m_enf_k}{${eval:$acl_m_enf_block+$acl_m_enf_throttle}}{defer}{accept}}}}
  accept  condition = ${if eq{$acl_m_enf_verdict}{reject}}
          set acl_m_enf_reply = ${base64d:${extract{reject}{$acl_m_enf_meta}}}$acl_m_enf_block\
                                ${base64d:${extract{end}{$acl_m_enf_meta}}}
  accept  condition = ${if eq{$acl_m_enf_verdict}{defer}}
          set acl_m_enf_reply = ${base64d:${extract{defer}{$acl_m_enf_meta}}}$acl_m_enf_throttle\
                                ${base64d:${extract{end}{$acl_m_enf_meta}}}
  accept

# The row of a key, empty when there is none. Every key has a table by its hash, so that a missing table is damage,
# and so is one of another export.
enforcement_row:
  warn    set acl_m_enf_number = ${eval:0x${length_7:${md5:$acl_arg1}}%${extract{tables}{$acl_m_enf_meta}}}
          set acl_m_enf_table = ${acl{enforcement_table}{$acl_m_enf_number}}
  deny    condition = ${if !eq{${extract{serial}{$acl_m_enf_table}}}{$acl_m_enf_serial}}
          set acl_m_enf_bad = $acl_m_enf_number
  accept  message = ${extract{$acl_arg1}{$acl_m_enf_table}{$value}{}}

# The content of a table, empty when it is missing, not readable, or not what its checksum says.
enforcement_table:
  warn    set acl_m_enf_file =
  warn    condition = ${if exists{ENFORCEMENT_DIR/tables/$acl_arg1}}
          condition = ${if match{${stat:ENFORCEMENT_DIR/tables/$acl_arg1}}\
                      {\N smode=-(?:.{6}r|.{3}r.* gid=\N$exim_gid\N |r.* uid=\N$exim_uid\N ).* size=[0-9]{1,7} \N}}
          set acl_m_enf_file = ${readfile{ENFORCEMENT_DIR/tables/$acl_arg1}}
  accept  condition = ${if eq{${length_32:$acl_m_enf_file}}{${md5:$acl_arg1 ${substr_33:$acl_m_enf_file}}}}
          message = ${substr_33:$acl_m_enf_file}
  deny
"""


def _written() -> str:
    """Put the patterns into the text; none of them holds Exim's end of literal text."""
    text = _TEXT.lstrip().replace("@LONGEST_LINE@", str(LONGEST_LINE))
    patterns = {"COMMENT": _COMMENT, "TIME": _TIME, "HOP": _HOP, "BUILD": _BUILD, "HOST": _HOST, "ADDRESS": _ADDRESS}
    for name, pattern in patterns.items():
        text = text.replace(f"@{name}@", pattern)
    return text


ACL: Final = _written()
