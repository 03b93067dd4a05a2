"""Index folders that a stranger made to do harm: name to function of a good folder."""

import os
import shutil

import numpy as np
from damaging import (
    as_device,
    as_link,
    as_socket,
    at,
    counted,
    deleted,
    doubled,
    exchanged,
    odd,
    of,
    other_index,
    padded,
    promised,
    set_bytes,
    set_part,
    signed,
    sparse,
    twice_pending,
    with_file,
    without_folder,
)

PUBLISHED, SEGMENT = ("published",), ("published", "segments", 0)


def an_entry(suffix):
    return at((*SEGMENT, "files", suffix), {"bytes": 0, "sha256": "0" * 64})


HOSTILE = {
    "a name that leads out": at((*SEGMENT, "name"), "../../etc/passwd"),
    "an absolute name": at((*SEGMENT, "name"), "/etc/passwd"),
    "a name with a folder": at((*SEGMENT, "name"), "00000001-0123abcd/x"),
    "a name of a megabyte": at((*SEGMENT, "name"), "x" * 10**6),
    "a name of another file": at((*SEGMENT, "name"), "LOCK"),
    "a suffix that leads out": an_entry("../vec"),
    "a suffix of dots": an_entry("..del"),
    "a suffix with a zero byte": an_entry("x\0"),
    "a suffix with a backslash": an_entry("..\\vec"),
    "a suffix with a device": an_entry("/dev/zero"),
    "a linked manifest": odd("MANIFEST", as_link),
    "a pipe as manifest": odd("MANIFEST", os.mkfifo),
    "a device as manifest": odd("MANIFEST", as_device),
    "a folder as manifest": odd("MANIFEST", os.mkdir),
    "a socket as manifest": odd("MANIFEST", as_socket),
    "linked vectors": odd(".vec", as_link),
    "a pipe as vectors": odd(".vec", os.mkfifo),
    "a device as payloads": odd(".docs", as_device),
    "a socket as rows": odd(".rows", as_socket),
    "a pipe as deletions": odd(".del", os.mkfifo),
    "a folder as rows": odd(".rows", os.mkdir),
    "a loop as payloads": odd(".docs", lambda path: path.symlink_to(path)),
    "a loop as folder": without_folder(lambda folder: folder.symlink_to(folder)),
    "a pipe as folder": without_folder(os.mkfifo),
    "a negative dim": at((*PUBLISHED, "dim"), -8),
    "a huge dim": at((*PUBLISHED, "dim"), 10**30),
    "a dim of 2³¹": at((*PUBLISHED, "dim"), 2**31),
    "the most rows": at((*SEGMENT, "rows"), 2**31 - 1),
    "too many rows": at((*SEGMENT, "rows"), 10**18),
    "negative rows": at((*SEGMENT, "rows"), -6),
    "more dead than rows": at((*SEGMENT, "dead"), 2**31 - 1),
    "huge bytes": at((*SEGMENT, "files", "vec", "bytes"), 2**63),
    "bytes of 4,000 digits": at((*SEGMENT, "files", "docs", "bytes"), 10**3999),
    "a format of 4,000 digits": at(("format",), 10**3999),
    "rows of 10,000 digits": at((*SEGMENT, "rows"), b"9" * 10_000),
    "an infinite generation": at(("generation",), b"1e999"),
    "NaN as dim": at((*PUBLISHED, "dim"), float("nan")),
    "NaN in the source": at((*PUBLISHED, "source"), {"x": float("nan")}),
    "infinite rows": at((*SEGMENT, "rows"), float("inf")),
    "true as dim": at((*PUBLISHED, "dim"), True),
    "false as dead": at(("published", "segments", 1, "dead"), False),
    "a float as dim": at((*PUBLISHED, "dim"), 8.0),
    "a float as generation": at(("generation",), 1.0),
    "a float as bytes": at((*SEGMENT, "files", "vec", "bytes"), 192.0),
    "a sparse manifest of 1 GB": sparse(2**30),
    "a sparse manifest of 12 MB": sparse(12 * 2**20),
    "lists": padded(b"[],", 3_000_000),
    "objects": padded(b"{},", 3_000_000),
    "numbers": padded(b"1.5,", 3_000_000),
    "pairs": padded(b'{"a":"b"},', 1_000_000),
    "30 MB of text": at((*PUBLISHED, "kind"), b'"' + "🔍".encode() + b"x" * 30_000_000 + b'"'),
    "a text that is not ASCII": at(
        (*PUBLISHED, "kind"), b'"' + "🔍".encode() + b"x" * 10**7 + b'"'
    ),
    "deep lists": signed(b"[" * 10**6),
    "deep objects": signed(b'{"a":' * 10**5 + b"1" + b"}" * 10**5),
    "a deep source": at((*PUBLISHED, "source"), b"[" * 10**5 + b"]" * 10**5),
    "no JSON": signed(b"\xff\xfe\0"),
    "two manifests": signed(b'{"format":1}' * 2),
    "format 0": at(("format",), 0),
    "exchanged vectors": exchanged("vec"),
    "exchanged payloads": exchanged("docs"),
    "exchanged rows": exchanged("rows"),
    "another index's vectors": other_index("vec"),
    "another index's payloads and rows": other_index("docs", "rows"),
    "another index's manifest": lambda folder: shutil.copy(
        folder.parent / "other/MANIFEST", folder
    ),
    "a segment twice": doubled,
    "an unknown field": at(("hook",), "os.system"),
    "an unknown field of the content": at((*PUBLISHED, "hook"), "os.system"),
    "an unknown field of a segment": at((*SEGMENT, "hook"), "os.system"),
    "an unknown field of a file": at((*SEGMENT, "files", "vec", "hook"), "os.system"),
    "a list of models": at((*PUBLISHED, "model"), ["fingerprint"]),
    "a fingerprint that is a number": at((*PUBLISHED, "model", "fingerprint"), 7),
    "segments by name": at((*PUBLISHED, "segments"), {"a": 1}),
    "a text of files": at((*SEGMENT, "files"), "vec docs rows"),
    "a source that is a list": at((*PUBLISHED, "source"), []),
    "a schema that is a text": at((*PUBLISHED, "schema"), "int64"),
    "a schema of numbers": at((*PUBLISHED, "schema"), [{"name": 1, "type": 2}]),
    "probes that are a number": at((*PUBLISHED, "probes"), 8),
    "probes of numbers": at((*PUBLISHED, "probes"), [{"text": 1, "vector": 2}]),
    "a kind that is a list": at((*PUBLISHED, "kind"), ["flat"]),
    "a type that is a list": at((*PUBLISHED, "dtype"), ["float32"]),
    "a checksum that is a number": at((*SEGMENT, "files", "vec", "sha256"), 7),
    "a short checksum": at((*SEGMENT, "files", "vec", "sha256"), "00"),
    "nothing": at(PUBLISHED, None),
    "an offset of 2⁶³": of(set_part("offsets", 3, 2**63)),
    "offsets that go back": of(set_part("offsets", 3, 1)),
    "offsets behind the end": of(set_part("offsets", slice(3, None), 10**6)),
    "another checksum of a row": of(set_part("crcs", 2, 7)),
    "a vector of NaN": counted(set_part("vectors", 2, np.nan)),
    "an infinite number": counted(set_part("vectors", (2, 0), np.inf)),
    "a bomb of brackets": counted(set_part("payloads", 2, b"[" * 10**6 + b"\n")),
    "a payload that is no UTF-8": counted(set_part("payloads", 2, b'{"id":"\xff"}\n')),
    "an id that is a number": counted(set_part("payloads", 2, b'{"id":7}\n')),
    "an id of 10,000 digits": counted(set_part("payloads", 2, b'{"id":' + b"9" * 10**4 + b"}\n")),
    "deleted rows that are not there": of(deleted(0, 2**32 - 1)),
    "rows deleted twice": of(deleted(1, 1)),
}
# What only somebody else than a reader of rows can tell.
# What is right in every respect, and as large as it may be.
LARGE = {
    "many pairs": padded(b'{"a":"b"},', 240_000),
    "many numbers": padded(b"1.5,", 490_000),
    "a long text": padded(b'"' + b"x" * 12_000_000 + b'\\ud83d\\udd0d",', 1),
}
# What reading rows does not tell, and retrieval check does.
FOR_CHECK = {
    "an empty vector": counted(set_part("vectors", 2, 0)),
    "numbers of 3e38": counted(set_part("vectors", 2, 3e38)),
    "a long vector": counted(set_part("vectors", 2, 5)),
    "keys of rows that are not there": of(set_part("key_rows", slice(None), 2**32 - 1)),
    "keys out of order": of(
        lambda part: part.keys.__setitem__(slice(None), part.keys[::-1].copy())
    ),
    "an id with half a character": counted(set_part("payloads", 2, b'{"id":"\\ud800"}\n')),
}
# What matters when a question is encoded.
FOR_MODEL = {
    "a model from the hub": at((*PUBLISHED, "model", "name"), "evil/repo"),
    "a model that leads out": at((*PUBLISHED, "model", "folder"), "../../../etc"),
    "a device as model": at((*PUBLISHED, "model", "folder"), "/dev/zero"),
    "a number as model": at((*PUBLISHED, "model", "name"), 7),
    "a number as model's folder": at((*PUBLISHED, "model", "folder"), 7),
    "no length of texts": at((*PUBLISHED, "model", "max_length"), "long"),
}
# Files that can be made again, and what is promised of them. Where only a file is bad rows are
# found without it, unless every byte was asked for.
FOR_GRAPH = {
    "a graph of another kind of file": with_file("ann", lambda raw: b"IxFI" + raw[4:]),
    "a graph that is no index": with_file("ann", lambda raw: b"\xff" * len(raw)),
    "an empty graph": with_file("ann", lambda raw: raw.clear()),
    "a graph of 2⁶⁰ rows": with_file("ann", set_bytes(8, 2**60)),
    "a graph of 2³¹ numbers": with_file("ann", set_bytes(4, 2**31 - 1)),
    "half a graph": with_file("ann", lambda raw: raw[: len(raw) // 2]),
    "a promise of another kind": promised(kind="evil/repo"),
    "columns that are no Parquet": with_file("cols.parquet", lambda raw: b"\xff" * len(raw)),
}
FOR_DERIVED = {
    f"{what} as {kind}": odd(f".{suffix}", make)
    for kind, suffix in (("graph", "ann"), ("sidecar", "words"), ("columns", "cols.parquet"))
    for what, make in (
        *(("a pipe", os.mkfifo), ("a device", as_device), ("a folder", os.mkdir)),
        *(("a socket", as_socket), ("a link", as_link)),
    )
}
FOR_PROMISE = {
    "no promise": at((*PUBLISHED, "ann"), 7),
    "a promise of a huge kind": promised(kind="IVF999999999,Flat"),
    "a promise of a negative setting": promised(knob=-1),
    "a promise of an infinite recall": promised(recall=float("inf")),
    "a promise of NaN": promised(target=float("nan")),
    "a promise with an unknown field": promised(hook="os.system"),
    "a recall of 2": at((*PUBLISHED, "recall"), 2),
    "a recall of NaN": at((*PUBLISHED, "recall"), float("nan")),
    "sidecars that are a list": at((*PUBLISHED, "sidecars"), ["words"]),
    "sidecars that are a text": at((*PUBLISHED, "sidecars"), "words"),
    "a promise of a setting of 2⁶²": promised(knob=2**62),
    "a promise of a setting of 2³¹": promised(knob=2**31 - 1),
    "a promise of a kind that is a list": promised(kind=["hnsw"]),
    "a promise of a kind of 10,000 digits": promised(kind="IVF" + "9" * 10_000 + ",Flat"),
}
# What matters to who goes on with an unfinished build.
PENDING = ("pending", "segments", 0)
FOR_WRITER = {
    "a pipe as lock": odd("LOCK", os.mkfifo),
    "a device as lock": odd("LOCK", as_device),
    "a folder as lock": odd("LOCK", os.mkdir),
    "a linked lock": odd("LOCK", as_link),
    "a pending name that leads out": at((*PENDING, "name"), "../../etc/passwd"),
    "pending rows that are not there": at((*PENDING, "rows"), 2**31 - 1),
    "pending bytes that are not there": at((*PENDING, "files", "vec", "bytes"), 2**60),
    "another checksum of what is pending": at((*PENDING, "files", "docs", "sha256"), "0" * 64),
    "two pending segments that grow": twice_pending,
}
