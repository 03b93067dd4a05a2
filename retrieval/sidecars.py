"""What stands beside the vectors of an index: made with each segment, by the settings it keeps."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from indexes.derived import Sidecar
from indexes.errors import IndexCorrupt
from retrieval.documents import Document

LEXICAL = "lexical"


def texts_of(payloads: Iterable[bytes]) -> Iterator[str]:
    """What is searched of each row: its title and text. IndexCorrupt for what is no document."""
    for number, payload in enumerate(payloads):
        try:
            record = json.loads(payload)
            yield Document(record["id"], record["text"], record["title"]).full_text
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise IndexCorrupt(f"row {number} is not a stored document: {error!r}") from error


def _lexical(settings: Mapping[str, Any], payloads: Iterable[bytes]) -> Iterable[bytes]:
    from retrieval.postings import postings

    return postings(texts_of(payloads), **settings)


SIDECARS: Mapping[str, Sidecar] = {LEXICAL: _lexical}
