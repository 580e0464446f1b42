"""Whether what a test of real mail servers needs is here: absent at a user's, a failure where all must be there."""

import os
import shutil
from importlib.util import find_spec

from conftest import absent

from enforcement.export.exim_server import exim_program


def need_exim() -> None:
    """Skip or fail without Exim, root, and a clock that can be set."""
    try:
        exim_program()
    except LookupError as problem:
        absent(str(problem))
    for part, there in (("root", os.geteuid() == 0), ("libfaketime", shutil.which("faketime"))):
        if not there:
            absent(f"no {part} here")


def need_rego() -> None:
    """Skip or fail without the two evaluators of Rego."""
    if find_spec("opa_eval") is None or find_spec("regopy") is None:
        absent("no opa-eval and regopy here")
