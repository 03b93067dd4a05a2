"""An index as files that other tools read: FAISS beside JSON lines, or Parquet."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from indexes.durable import sync_file, sync_folder
from indexes.errors import IndexExists, IndexWriteFailed
from indexes.flat_files import write_flat
from indexes.view import View
from retrieval.documents import Document, to_json
from retrieval.encoding import Vectors
from retrieval.errors import CorpusError
from retrieval.hits import document as stored_document

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 4_096  # exported at once …
CHARACTERS = 32 * 2**20  # … or fewer, where their texts are long
TIME = "timestamp[us]"
RESERVED = ("id", "text", "title", "vector")
Block = tuple[list[Document], Vectors]


def export_index(
    folder: str | Path, to: str, out: str | Path, *, overwrite: bool = False
) -> list[Path]:
    """Write the live rows of an index, in order, and return the files that hold them.

    ``to="faiss"``: an IndexFlatIP in ``out``, and in ``out`` + ``.jsonl`` the document of each
    row; ``"parquet"``: id, text, title, the metadata columns and vector in ``out``. A metadata
    column of a name that is taken becomes ``metadata.<name>``. The files appear under their names
    when they are complete. Errors: those of opening an index, IndexExists when a file is in the
    way and may not be overwritten, IndexWriteFailed.
    """
    if to not in EXPORTS:
        raise ValueError(f"to must be one of {tuple(EXPORTS)}, got {to!r}")
    suffixes, write = EXPORTS[to]
    view = View(folder)
    files = [Path(f"{out}{suffix}") for suffix in suffixes]
    for file in files:
        if os.path.lexists(file) and not overwrite:
            raise IndexExists(f"{file} exists; give another name, or pass --overwrite")
    with _complete_or_absent(files) as streams:
        write(view, *streams)
    return files


@contextmanager
def _complete_or_absent(files: Sequence[Path]) -> Iterator[list[IO[bytes]]]:
    """Streams whose content appears under the names all together, on disk, or not at all."""
    fresh = [file.with_name(f"{file.name}.{os.getpid()}.tmp") for file in files]
    streams: list[IO[bytes]] = []
    try:
        for path in fresh:
            streams.append(path.open("xb"))
        yield streams
        for stream in streams:
            sync_file(stream)
            stream.close()
        # Of two files the first goes first and comes last: it never stands beside a stranger.
        if len(files) > 1:
            files[0].unlink(missing_ok=True)
        for path, file in reversed(list(zip(fresh, files, strict=True))):
            os.replace(path, file)
        sync_folder(files[0].parent)
    except OSError as error:
        raise IndexWriteFailed(f"cannot write {files[0]}: {error.strerror or error}") from error
    finally:
        for stream, path in zip(streams, fresh, strict=False):
            stream.close()
            path.unlink(missing_ok=True)


def blocks(view: View) -> Iterator[Block]:
    """The live documents in order, and their vectors float32 [n, dim], a bounded number at once."""
    documents: list[Document] = []
    held, first = 0, 0
    positions = view.positions()
    for position in positions.tolist():
        documents.append(stored_document(view, position))
        held += len(documents[-1].text)
        if len(documents) == ROWS or held >= CHARACTERS:
            yield documents, view.vectors(positions[first : first + len(documents)])
            first += len(documents)
            documents, held = [], 0
    if documents:
        yield documents, view.vectors(positions[first:])


def _write_faiss(view: View, vectors: IO[bytes], lines: IO[bytes]) -> None:
    def told() -> Iterator[Vectors]:
        for documents, block in blocks(view):
            lines.writelines(map(_json_line, documents))
            yield block

    write_flat(vectors, view.content.dim, len(view), told())


def _json_line(document: Document) -> bytes:
    names = _free_names(document.metadata)
    record = {"id": document.id, "text": document.text, "title": document.title}
    metadata = {names[name]: to_json(value) for name, value in document.metadata.items()}
    return json.dumps({**record, **metadata}, ensure_ascii=False).encode() + b"\n"


def _free_names(names: Iterable[str]) -> dict[str, str]:
    """What each metadata column is called beside the columns that every document has."""
    taken = {*RESERVED, *names}
    free = {}
    for name in names:
        other = name
        while other in RESERVED or (other != name and other in taken):
            other = f"metadata.{other}"
        free[name] = other
    return free


def _write_parquet(view: View, stream: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = _free_names([field["name"] for field in view.content.schema])
    kinds = _arrow_types(view)
    schema = pa.schema(
        [
            *((name, pa.string()) for name in RESERVED[:3]),
            *((names[name], kind) for name, kind in kinds.items()),
            ("vector", pa.list_(pa.float32(), view.content.dim)),
        ]
    )
    plain = [name for name in schema.names if name != "vector"]
    with pq.ParquetWriter(
        stream, schema, use_dictionary=plain, compression="zstd", write_page_checksum=True
    ) as writer:
        for documents, vectors in blocks(view):
            columns = [
                *([getattr(document, name) for document in documents] for name in RESERVED[:3]),
                *([document.metadata.get(name) for document in documents] for name in kinds),
                pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), view.content.dim),
            ]
            arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _arrow_types(view: View) -> dict[str, "pa.DataType"]:
    """The Arrow type of each metadata column; times with a zone are kept in UTC."""
    import pyarrow as pa

    types = {field["name"]: field["type"] for field in view.content.schema}
    listed = pa.list_(pa.string())
    kinds = {
        name: listed if kind == str(listed) else pa.type_for_alias(kind)
        for name, kind in types.items()
    }
    for name, zoned in _zones(view, [name for name in kinds if types[name] == TIME]).items():
        if len(zoned) > 1:
            raise CorpusError(
                f"metadata {name!r} holds times with a zone and without, which one Parquet column "
                "cannot; export --to faiss"
            )
        if True in zoned:
            kinds[name] = pa.timestamp("us", "UTC")
    return kinds


def _zones(view: View, names: Sequence[str]) -> dict[str, set[bool]]:
    """Whether the times in these columns have a zone: both, for one that mixes them."""
    zoned: dict[str, set[bool]] = {name: set() for name in names}
    for documents, _ in blocks(view) if names else ():
        for document in documents:
            for name in names:
                if isinstance(time := document.metadata.get(name), datetime):
                    zoned[name].add(time.tzinfo is not None)
    return zoned


# How each format is written, and what is put behind the name of each of its files.
EXPORTS: Mapping[str, tuple[tuple[str, ...], Callable[..., None]]] = {
    "faiss": (("", ".jsonl"), _write_faiss),
    "parquet": (("",), _write_parquet),
}
