"""The console command `perank`: `perank <sub-command> ...` is `python -m perank.<module> ...`.

Help reads the first line of each module's docstring from its source, so it loads no library.
"""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import NoReturn

from perank.errors import BadInput, exits_cleanly
from perank.files import PACKAGE_DIR

COMMANDS = {name: f"perank.{name}" for name in ("rank", "evaluate", "train", "encode", "prepare", "tabulate", "doctor")}
COMMANDS["serve"] = "perank.serving.command"
_HELP = ("-h", "--help", "help")


@exits_cleanly
def main() -> None:
    """Run the sub-command. Raises `BadInput` for an unknown one."""
    words = sys.argv[1:]
    if not words or words[0] in _HELP:
        sys.stdout.write(overview())
    elif words[0] in ("-V", "--version"):
        from perank import __version__

        sys.stdout.write(f"perank {__version__}\n")
    elif words[0] in COMMANDS:
        sys.argv = [f"perank {words[0]}", *words[1:]]
        _run(words[0])
    else:
        raise BadInput(f"no such command: {words[0]!r}", remedy=f"choose one of {', '.join(COMMANDS)}")


def overview() -> str:
    """What `perank --help` prints."""
    lines = "\n".join(f"  {name:<9} {purpose(module)}" for name, module in COMMANDS.items())
    return f"usage: perank <command> ...\n\n{lines}\n\nperank <command> --help has examples and all settings.\n"


def purpose(module: str) -> str:
    """The first line of a module's docstring, without importing it."""
    path = PACKAGE_DIR.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return str(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))).splitlines()[0]


def _run(name: str) -> None:
    try:
        entry = import_module(COMMANDS[name]).main
        # Lightning starts further processes as `python -m <module>`, and reads the module's name here.
        sys.modules["__main__"].__spec__ = find_spec(COMMANDS[name])
    except ModuleNotFoundError as error:
        _lacks(name, error)
    entry()


def _lacks(name: str, error: ModuleNotFoundError) -> NoReturn:
    """Name the extra that the command needs. Raises the error itself if a module of perank is missing."""
    if str(error.name).startswith("perank"):
        raise error
    extra = "serve" if name == "serve" else "train,data"
    remedy = f"pip install 'perank[{extra}]'"
    raise BadInput(f"perank {name} needs {error.name}, which isn't installed", remedy=remedy) from error
