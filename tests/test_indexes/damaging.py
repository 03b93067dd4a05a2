"""Ways to damage an index folder: each makes a function of the folder.

Checksums are made to agree, so that what stands behind them is reached. The folder beside the
damaged one is of another index, ``other``.
"""

import json
import os
import shutil
import socket
import stat

import numpy as np
from anatomy import Anatomy, put, record_of, sign

NO_NUMBER = b'"no number"'


def at(path, value):
    """A manifest with another value in a place: ``value``, or raw JSON as bytes."""

    def damage(folder):
        record = place = record_of(folder)
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = "no number" if isinstance(value, bytes) else value
        text = json.dumps(record).encode()
        sign(folder, text.replace(NO_NUMBER, value) if isinstance(value, bytes) else text)

    return damage


def of(change):
    """A segment with other content, its checksums all true."""

    def damage(folder):
        part = Anatomy(folder)
        change(part)
        part.seal()

    return damage


def counted(change):
    """The same, with the rows' own checksums made to agree."""

    def damage(folder):
        part = Anatomy(folder)
        change(part)
        part.recount()
        part.seal()

    return damage


def odd(kind, make):
    """Something else than a file in the place of one."""

    def damage(folder):
        path = next(folder.glob(f"00000001-*{kind}")) if kind.startswith(".") else folder / kind
        path.rename(folder.parent / "aside")
        make(path)

    return damage


def as_link(path):
    path.symlink_to(path.parent.parent / "aside")


def as_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def as_device(path):
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    except OSError:  # only a superuser makes devices
        path.symlink_to("/dev/zero")


def signed(text):
    return lambda folder: sign(folder, text)


def sparse(size):
    return lambda folder: os.truncate(folder / "MANIFEST", size)


def padded(filling, times):
    """A manifest that is right but for so many values in its source."""
    return at(("published", "source", "files"), b"[" + (filling * times).rstrip(b",") + b"]")


def exchanged(kind):
    """The files of one kind of two segments, each in the other's place."""

    def damage(folder):
        record = record_of(folder)
        one, other = record["published"]["segments"]
        contents = [(folder / f"{s['name']}.{kind}").read_bytes() for s in (one, other)]
        put(folder, one, kind, contents[1])
        put(folder, other, kind, contents[0])
        sign(folder, record)

    return damage


def with_file(kind, change):
    """Other bytes in a file, and a manifest that agrees."""

    def damage(folder):
        record = record_of(folder)
        segment = record["published"]["segments"][0]
        raw = bytearray((folder / f"{segment['name']}.{kind}").read_bytes())
        put(folder, segment, kind, bytes(change(raw) or raw))
        sign(folder, record)

    return damage


def promised(**fields):
    """A manifest that promises something else of its graphs."""

    def damage(folder):
        record = record_of(folder)
        record["published"]["ann"].update(fields)
        sign(folder, record)

    return damage


def other_index(*kinds):
    """Files of another index."""

    def damage(folder):
        part, other = Anatomy(folder), Anatomy(folder.parent / "other")
        for kind in kinds:
            put(folder, part.segment, kind, other.read(kind))
        sign(folder, part.record)

    return damage


def doubled(folder):
    record = record_of(folder)
    record["published"]["segments"] += record["published"]["segments"][:1]
    sign(folder, record)


def twice_pending(folder):
    record = record_of(folder)
    record["pending"]["segments"] += record["pending"]["segments"]
    sign(folder, record)


def without_folder(make):
    def damage(folder):
        shutil.rmtree(folder)
        make(folder)

    return damage


def set_part(name, index, value):
    return lambda part: getattr(part, name).__setitem__(index, value)


def set_bytes(start, number):
    """A file with another number of four or eight bytes in it."""
    raw = number.to_bytes(8 if number >= 2**31 else 4, "little")
    return lambda content: content.__setitem__(slice(start, start + len(raw)), raw)


def deleted(*rows):
    def change(part):
        put(part.folder, part.segment, part.suffix("del"), np.array(rows, "<u4").tobytes())

    return change
