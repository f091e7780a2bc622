"""TMX: translation memories, as translators' tools exchange them, read as a table of two languages.

A file is a list of units, each with a text in several languages (TMX 1.4b, GALA). Files of any size
are read in little memory. Formatting codes in the texts are left out; where one stood by itself, as
for a line break, a blank parts the words that it parted.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from xml.parsers import expat

from data.cells import clip
from data.errors import DataError
from data.tables.table import Chunk, FileTable, batches, opened

BLOCK = 2**16

Unit = dict[str, str]  # language code -> text

_WITHIN = {"bpt", "ept", "hi"}  # what begins and ends formatting, also in the midst of a word


def is_tmx(path: str) -> bool:
    """Whether a file's name says that it is a translation memory."""
    return path.lower().removesuffix(".gz").endswith(".tmx")


@dataclass(frozen=True)
class TmxTable(FileTable):
    """The units of a translation memory, as rows with two columns: a text and its translation.

    A cell is None where a unit lacks the language.
    """

    names: tuple[str, str]
    """What the columns are called."""

    languages: tuple[str | None, str | None]
    """The codes of the columns' languages. A language that isn't said is the one that the file has
    beside the other; if neither is, the first is the one that the file was translated from."""

    def columns(self) -> list[str]:
        return list(self.names)

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        wanted = self._languages()
        seen: dict[str, None] = {}
        found: set[str] = set()
        row = 1
        for batch in batches(self._units(), size, lambda unit: sum(map(len, unit.values()))):
            texts = [[_text(unit, language) for unit in batch] for language in wanted]
            seen |= dict.fromkeys(chain.from_iterable(batch))
            found |= {
                language
                for language, column in zip(wanted, texts, strict=True)
                if any(text is not None for text in column)
            }
            cells = dict(zip(self.names, texts, strict=True))
            yield Chunk(list(range(row, row + len(batch))), cells, [])
            row += len(batch)
        for language, side in zip(wanted, ("source", "target"), strict=True):
            if language not in found:
                raise DataError(
                    f"{self.name} has no texts in '{language}'; its languages are: "
                    f"{_listed(seen)}. Name one with --data.{side}_language."
                )

    def _languages(self) -> tuple[str, str]:
        """The codes of both languages; those that weren't said take a pass over the file."""
        source, target = self.languages
        if source and target:
            return source, target
        seen: dict[str, None] = {}
        header: dict[str, str] = {}
        for unit in self._units(header):
            seen |= dict.fromkeys(unit)
        # Regions only tell languages apart where nothing else does: en-US, en-GB and de are two.
        bases = list(dict.fromkeys(code.replace("_", "-").partition("-")[0] for code in seen))
        both = list(seen) if len(bases) == 1 else bases
        said = source or target
        first = said or header.get("srclang", "")
        own = [code for code in both if _fits(first, code) or _fits(code, first)]
        if len(both) != 2 or (said and not own):
            raise DataError(
                f"{self.name} has texts in: {_listed(seen)}; name two languages with "
                "--data.source_language and --data.target_language."
            )
        one = own[0] if own else both[0]
        other = both[1 - both.index(one)]
        return (other, target) if target else (source or one, other)

    def _units(self, header: dict[str, str] | None = None) -> Iterator[Unit]:
        """The units; the attributes of the file's header are put into `header`."""
        reader = _Reader(self.name, {} if header is None else header)
        try:
            with opened(self.path, self.name) as file:
                while block := file.read(BLOCK):
                    yield from reader.read(block)
                yield from reader.read(b"", last=True)
        except DataError:
            raise
        except expat.ExpatError as error:
            raise DataError(
                f"{self.name}, line {error.lineno}: not well-formed XML "
                f"({expat.ErrorString(error.code)}); export the file anew."
            ) from error
        except (LookupError, ValueError) as error:
            raise DataError(
                f"{self.name}: its encoding can't be read ({clip(str(error), 80)}); save it as "
                "UTF-8."
            ) from error


class _Reader:
    """Gathers the units of a file that comes in blocks.

    Entities are refused, in whatever encoding they are: they can unfold to more than the memory
    holds, or name other files.
    """

    def __init__(self, name: str, header: dict[str, str]) -> None:
        self._name = name
        self._header = header
        self._units: list[Unit] = []
        self._unit: Unit = {}
        self._language = ""
        self._text: list[str] | None = None  # of the segment that is being read
        self._codes = 0  # formatting codes that are open
        self._parted = False  # whether the last of them stood by itself
        self._rooted = False
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.EntityDeclHandler = self._refuse
        self._parser.SkippedEntityHandler = self._refuse

    def read(self, block: bytes, last: bool = False) -> list[Unit]:
        """The units that end in a block."""
        self._parser.Parse(block, last)
        units, self._units = self._units, []
        return units

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._rooted and tag != "tmx":
            raise DataError(f"{self._name} is XML but not TMX: its root is <{clip(tag)}>.")
        self._rooted = True
        if self._text is not None:
            self._parted |= not self._codes and tag not in _WITHIN
            self._codes += tag != "hi"
        elif tag == "seg":
            self._text, self._codes, self._parted = [], 0, False
        elif tag == "tuv":
            self._language = (attributes.get("xml:lang") or attributes.get("lang", "")).lower()
        elif tag == "tu":
            self._unit = {}
        elif tag == "header":
            self._header.update({key: value.lower() for key, value in attributes.items()})

    def _end(self, tag: str) -> None:
        if tag == "seg" and self._text is not None:
            if self._language:
                self._unit.setdefault(self._language, "".join(self._text))
            self._text = None
        elif self._text is not None:
            self._codes -= tag != "hi"
        elif tag == "tu":
            self._units.append(self._unit)

    def _characters(self, text: str) -> None:
        if self._text is None or self._codes:
            return
        if self._parted and self._text and _words_meet(self._text[-1][-1], text[0]):
            self._text.append(" ")
        self._parted = False
        self._text.append(text)

    def _refuse(self, entity: str, *declaration: Any) -> None:
        raise DataError(
            f"{self._name}, line {self._parser.CurrentLineNumber}: the entity '{clip(entity)}', "
            "which is not read, as entities can do harm; write the character itself."
        )


def _words_meet(end: str, start: str) -> bool:
    """Whether two characters next to each other make one of what were two words or sentences."""
    before, after = unicodedata.category(end), unicodedata.category(start)
    return after[0] in "LN" and (before[0] in "LMN" or before == "Pe" or end in ".,;:!?…")


def _text(unit: Unit, language: str) -> str | None:
    """The unit's text in a language, or else in a region's variety of it."""
    return next((text for code, text in unit.items() if _fits(code, language)), None)


def _fits(code: str, language: str) -> bool:
    """Whether a code is that of a language, or of a region's variety: "en-us" for "en"."""
    code, language = code.lower().replace("_", "-"), language.lower().replace("_", "-")
    return code == language or code.startswith(f"{language}-")


def _listed(codes: dict[str, None]) -> str:
    return ", ".join(clip(code) for code in codes) or "no language"
