"""Where the rows of a store came from."""

from pathlib import Path

from enforcement.store import open_store
from enforcement.story_sources import Sources
from enforcement.workbench import Setting


def read_sources(setting: Setting) -> Sources:
    """Read what a store was filled from, and why some rows could not be used."""
    with open_store(setting.store) as store:
        imports = store.imports()
        return Sources(
            imports=imports,
            rejects=store.query("select reason, count(*) as rows from rejects group by all order by rows desc, reason"),
            are_times_rounded=imports["times_rounded_to"].is_not_null().any(),
            fingerprint=store.fingerprint(),
        )


def fingerprint(store: Path) -> str:
    """Give the hash of what a store holds: the contents and options of its imports."""
    with open_store(store) as opened:
        return opened.fingerprint()
