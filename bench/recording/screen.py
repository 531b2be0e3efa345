"""A terminal in memory: as much of one as rich, Helm and kubectl use. What scrolls away is kept.

Must not know: what is played, and where a recording goes.
"""

from __future__ import annotations

import codecs
import re

Cell = tuple[str, str]  # a character, and how it looks: parameters of SGR

_SEQUENCE = re.compile(r"\x1b(?:\[([0-9;?]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-Z]|[=>78cM])")
_LONGEST_SEQUENCE = 200
_TAB = 8
CLEAR = "\x1b[H\x1b[J"


class Screen:
    def __init__(self, columns: int = 136, rows: int = 36) -> None:
        self.columns, self.rows = columns, rows
        self._lines: list[list[Cell]] = [[]]
        self._row = self._column = 0
        self._style = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""  # the beginning of a sequence

    def feed(self, data: bytes) -> None:
        text, at = self._rest + self._decode(data), 0
        self._rest = ""
        while at < len(text):
            found = _SEQUENCE.match(text, at)
            if found is not None:
                self._obey(found[1] or "", found[2] or "")
                at = found.end()
            elif text[at] == "\x1b" and len(text) - at < _LONGEST_SEQUENCE:
                self._rest = text[at:]
                return
            else:
                self._put(text[at])
                at += 1

    def text(self) -> list[str]:
        """All lines, without spaces at their ends, and without empty lines at the end."""
        lines = ["".join(character for character, _ in line).rstrip() for line in self._lines]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def painted(self) -> str:
        """What draws the last rows in a terminal, whatever is there; the cursor stands behind them."""
        lines = self._lines[-self.rows :]
        return CLEAR + "\r\n".join(_painted(line) for line in lines)

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._go(self._row + 1, self._column)
        elif character == "\b":
            self._column = max(0, self._column - 1)
        elif character == "\t":
            self._column = min(self.columns - 1, (self._column // _TAB + 1) * _TAB)
        elif character >= " ":
            if self._column >= self.columns:
                self._go(self._row + 1, 0)
            line = self._lines[self._row]
            line += [(" ", "")] * (self._column - len(line))
            line[self._column : self._column + 1] = [(character, self._style)]
            self._column += 1

    def _go(self, row: int, column: int) -> None:
        self._row, self._column = max(0, row), max(0, min(column, self.columns - 1))
        self._lines += [[] for _ in range(self._row + 1 - len(self._lines))]

    def _obey(self, parameters: str, command: str) -> None:
        first = int(parameters) if parameters.isdecimal() else 0
        top = max(0, len(self._lines) - self.rows)
        if command == "m":
            self._restyle(parameters)
        elif command in "ABCD" and command:
            down, right = {"A": (-1, 0), "B": (1, 0), "C": (0, 1), "D": (0, -1)}[command]
            count = max(1, first)
            self._go(max(top, self._row + down * count), self._column + right * count)
        elif command == "G":
            self._column = max(0, first - 1)
        elif command == "H":
            row, _, column = parameters.partition(";")
            self._go(top + int(row or 1) - 1, int(column or 1) - 1)
        elif command == "K":
            self._erase(self._row, first)
        elif command == "J":
            self._erase_below(0 if first == 0 else top - self._row, first)

    def _erase(self, row: int, how: int) -> None:
        line = self._lines[row]
        if how == 0:
            del line[self._column :]
        elif how == 1:
            line[: self._column + 1] = [(" ", "")] * min(len(line), self._column + 1)
        else:
            line.clear()

    def _erase_below(self, offset: int, how: int) -> None:
        if how == 0:
            self._erase(self._row, 0)
            del self._lines[self._row + 1 :]
            return
        for line in self._lines[self._row + offset :]:
            line.clear()

    def _restyle(self, parameters: str) -> None:
        for part in (parameters or "0").split(";"):
            self._style = "" if part in ("", "0") else f"{self._style};{part}".strip(";")


def _painted(line: list[Cell]) -> str:
    out, looks = "", ""
    for character, style in line:
        if style != looks:
            out += "\x1b[0m" + (f"\x1b[{style}m" if style else "")
            looks = style
        out += character
    return out + ("\x1b[0m" if looks else "")
