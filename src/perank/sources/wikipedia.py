"""Wikipedia passages as published: Atlas' JSON lines (`id`, `title`, `section`, `text`; 31.5 million of Dec 2020) and
DPR's psgs_w100.tsv (`id<TAB>text<TAB>title` under a header; 21 million).

Lines are parsed on demand. If several files are read together, a passage's id includes its file's name, because Atlas
numbers texts and infoboxes separately.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perank.errors import BadInput
from perank.files import json_object, lines
from perank.records import Passage
from perank.sources import check_new, text_in

_DPR = ("id", "text", "title")


@dataclass(frozen=True, slots=True)
class WikipediaLine:
    """One line of a file, unparsed."""

    path: Path
    number: int
    text: str
    prefix: str = ""

    @property
    def passage(self) -> Passage:
        """Parse the passage; title and section form its title. Raises `BadInput` for a broken or empty one."""
        id, title, text = self._tabbed() if ".tsv" in self.path.suffixes else self._json()
        check_new(id, (), self.path, self.number)
        if not text.strip():
            raise BadInput("the passage is empty", remedy="remove the line", path=self.path, line=self.number, id=id)
        return Passage(self.prefix + id, text, title)

    def _tabbed(self) -> tuple[str, str, str]:
        cells = next(csv.reader([self.text], delimiter="\t"))
        if len(cells) != 3:
            problem = f"expected 3 columns ({', '.join(_DPR)}), found {len(cells)}"
            raise BadInput(problem, remedy="fix the line", path=self.path, line=self.number)
        return cells[0], cells[2], cells[1]

    def _json(self) -> tuple[str, str, str]:
        row = json_object(self.text, self.path, self.number)
        if isinstance(row.get("id"), int):
            row["id"] = str(row["id"])
        id = text_in(row, "id", self.path, self.number)
        titles = [text_in(row, key, self.path, self.number, id) for key in ("title", "section") if key in row]
        return id, ": ".join(filter(None, titles)), text_in(row, "text", self.path, self.number, id)


def wikipedia_lines(paths: Sequence[str | Path]) -> Iterator[WikipediaLine]:
    """Iterate over .jsonl and .tsv files, gzipped or not. Raises `BadInput` for other files and a missing header."""
    for path in map(Path, paths):
        kinds = {".jsonl", ".tsv"} & set(path.suffixes)
        if not kinds:
            raise BadInput("neither .jsonl nor .tsv", remedy="name Atlas' or DPR's passages", path=path)
        prefix = f"{path.name.partition('.')[0]}:" if len(paths) > 1 else ""
        read = lines(path)
        if ".tsv" in kinds:
            number, header = next(read, (1, ""))
            if tuple(header.split("\t")) != _DPR:
                problem = f"expected the header {' '.join(_DPR)}"
                raise BadInput(problem, remedy="use the file as DPR publishes it", path=path, line=number)
        yield from (WikipediaLine(path, number, text, prefix) for number, text in read)
