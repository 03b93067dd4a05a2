"""What a Parquet file says of itself, read here because pyarrow ends the process on a hostile one.

The footer and the head of each page are Thrift structs in the compact protocol; the fields that are
used have these numbers: file 3 rows, 4 row groups · group 1 chunks, 3 rows · chunk 1 other file,
3 account · account 4 codec (0 is none), 5 values, 7 bytes, 9 first data page, 11 dictionary ·
page 3 bytes, 5 data, 7 dictionary · either of them 1 values, 2 encoding.
"""

from mmap import mmap
from typing import Any, NamedTuple

from indexes.errors import IndexCorrupt

MAGIC = b"PAR1"
# Plain, runs, and dictionaries: what others decode to is not bounded by what they take.
ENCODINGS = (0, 2, 3, 8)
DEEPEST = 16  # structs and lists within each other; Parquet itself needs half of it
STOP, TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 12
WHOLE = (4, 5, 6)  # numbers of 16, 32 and 64 bits

Struct = dict[int, Any]


class Account(NamedTuple):
    """The rows of a file, and the values that its columns hold together."""

    rows: int
    values: int


def read_footer(data: bytes | mmap) -> Account:
    """The account of a file whose columns are not compressed; IndexCorrupt for any other."""
    try:
        length = int.from_bytes(data[-8:-4], "little")
        if data[-4:] != MAGIC or not 0 < length <= len(data) - 12:
            raise ValueError("it has no footer")
        footer = _Compact(data[-8 - length : -8]).struct()
        groups = footer[4]
        rows = [group[3] for group in groups]
        if min([0, *rows]) < 0 or sum(rows) != footer[3]:
            raise ValueError("its rows do not add up")
        chunks = [chunk for group in groups for chunk in group[1]]
        if any(1 in chunk or chunk[3][4] != 0 for chunk in chunks):
            raise ValueError("a column is compressed or in another file")
        if sum(chunk[3][7] for chunk in chunks) > len(data):
            raise ValueError("its columns overlap")
        return Account(footer[3], sum(_values(data, chunk[3]) for chunk in chunks))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise IndexCorrupt(f"the columns are not a Parquet file of ours: {error}") from None


def _values(data: bytes | mmap, account: Struct) -> int:
    """How many values a chunk's pages hold, which the account must agree with."""
    at, stop, values = account[9], account[9] + account[7], 0
    if 0 < account.get(11, 0) < at:
        at, stop = account[11], account[11] + account[7]
    if not 0 <= at <= stop <= len(data):
        raise ValueError("a column lies outside of it")
    while at < stop:
        page = _Compact(data, at)
        head = page.struct()
        (kind,) = head.keys() & {5, 6, 7, 8}  # a page that says two things may be read either way
        size, held = head[3], head[kind]
        if kind not in (5, 7) or size < 0 or held[1] < 0 or held[2] not in ENCODINGS:
            raise ValueError("a page is not as it is written here")
        # For so many entries memory is taken before they are read; each has four bytes or more.
        if kind == 7 and 4 * held[1] > size:
            raise ValueError("a dictionary does not fit its page")
        values += held[1] if kind == 5 else 0
        at = page.at + size
    if (at, values) != (stop, account[5]):
        raise ValueError("the pages of a column do not add up")
    return values


class _Compact:
    """A reader of the compact protocol."""

    def __init__(self, data: bytes | mmap, at: int = 0) -> None:
        self.at = at
        self._data = data
        self._depth = 0

    def struct(self) -> Struct:
        fields: Struct = {}
        number = 0
        while (head := self._byte()) & 15 != STOP:
            number = number + (head >> 4) if head >> 4 else self._whole()
            # Of two readers of a repeated field each could believe another value.
            if number in fields:
                raise ValueError(f"field {number} comes twice")
            kind = head & 15
            fields[number] = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in WHOLE:
            return self._whole()
        if kind in (TRUE, FALSE, BYTE):  # of a list: a byte each
            return self._byte()
        if kind in (DOUBLE, BINARY):
            return self._bytes(8 if kind == DOUBLE else self._varint())
        self._depth += 1
        if self._depth > DEEPEST or kind not in (LIST, SET, STRUCT):
            raise ValueError(f"there is a value of kind {kind} at depth {self._depth}")
        value = self.struct() if kind == STRUCT else self._list()
        self._depth -= 1
        return value

    def _list(self) -> list[Any]:
        head = self._byte()
        size = head >> 4 if head >> 4 != 15 else self._varint()
        return [self._value(head & 15) for _ in range(size)]

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _bytes(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self._data):
            raise ValueError("a text goes on behind the end")
        return self._data[self.at - size : self.at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a number has more than 64 bits")

    def _whole(self) -> int:
        value = self._varint()
        return value >> 1 if value % 2 == 0 else -(value >> 1) - 1
