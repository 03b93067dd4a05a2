"""Is an index what it says it is? Every count, every byte, every row, and the model itself."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from indexes.audit import Problem, SegmentAudit, without_path
from indexes.derived import with_every_file, without
from indexes.durable import open_plain, refusals, sync_folder
from indexes.errors import IndexCorrupt, RetrievalError
from indexes.manifest import NAME, Content, Manifest, published, read_manifest
from indexes.repeated import repeated_ids
from indexes.segment import is_derived
from indexes.session import Session, orphans
from retrieval.encoding import TextEncoder
from retrieval.probes import check_probes
from retrieval.sidecars import SIDECARS
from retrieval.stored import check_payload

ATTEMPTS = 5  # to open a generation before the next commit removes its files
MOST = 10  # problems named for each file; a damaged one may have a million

Repair = Callable[[Session, Sequence[Problem]], Iterable[str]]


@dataclass(frozen=True)
class CheckReport:
    """What a check found. ``probes`` says how the model compares with the one that built the index,
    or why that was not checked; ``leftovers`` are files of writers that did not finish, harmless;
    ``repaired`` is what was put right, a line each, and ``problems`` what is left after that.
    """

    folder: str
    rows: int = 0
    deleted: int = 0
    segments: int = 0
    files: int = 0
    bytes: int = 0
    generation: int = 0
    full: bool = False
    probes: str = "not checked: the manifest is damaged"
    leftovers: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return {**asdict(self), "problems": [problem._asdict() for problem in self.problems]}


def check_index(
    folder: str | Path,
    *,
    full: bool = False,
    repair: bool = False,
    encoder: TextEncoder | None = None,
) -> CheckReport:
    """Check what readers see of an index; a writer may go on meanwhile.

    Every row and every file up to 64 MiB is read and compared with its checksum, with ``full``
    every file. The probe texts are encoded again, with ``encoder`` or the index's own model where
    it is on this machine. Nothing is written unless ``repair``, which takes the writer's lock.
    Errors: IndexNotFound, IndexUnfinished, IndexTooNew, ModelError for an encoder that is not the
    index's; with ``repair`` IndexLocked and IndexWriteFailed. Damage is no error but in the report.
    """
    folder = Path(folder)
    report = _check(folder, full, encoder)
    if repair and (done := _repair(folder, report.problems)):
        report = replace(_check(folder, full, encoder), repaired=done)
    return report


def _check(folder: Path, full: bool, encoder: TextEncoder | None) -> CheckReport:
    try:
        manifest, content, audits = _open(folder)
    except IndexCorrupt as error:
        problem = Problem(NAME, None, without_path(error, folder / NAME))
        return CheckReport(str(folder), full=full, problems=(problem,))
    probes, of_model = check_probes(content, encoder)
    return CheckReport(
        folder=str(folder),
        rows=content.rows,
        deleted=sum(segment.dead for segment in content.segments),
        segments=len(content.segments),
        files=sum(len(segment.files) for segment in content.segments),
        bytes=content.bytes,
        generation=manifest.generation,
        full=full,
        probes=probes,
        leftovers=tuple(_leftovers(folder, manifest)),
        problems=(
            *(Problem(NAME, None, what) for what in of_model),
            *_first_of_each_file(_of_segments(content, audits, full)),
            *_of_unfinished(folder, manifest.pending),
        ),
    )


def _open(folder: Path) -> tuple[Manifest, Content, list[SegmentAudit]]:
    """A generation whose files were all opened before a commit could remove them."""
    manifest = read_manifest(folder)
    for _ in range(ATTEMPTS):
        content = published(folder, manifest)
        audits = [SegmentAudit(folder, entry, content) for entry in content.segments]
        newer = read_manifest(folder)
        if newer.generation == manifest.generation or not any(a.missing for a in audits):
            break
        manifest = newer
    return manifest, content, audits


def _of_segments(content: Content, audits: Sequence[SegmentAudit], full: bool) -> Iterator[Problem]:
    types = {column.get("name", ""): column.get("type", "") for column in content.schema}
    for audit in audits:
        yield from audit.problems(lambda payload: check_payload(payload, types), full=full)
    yield from repeated_ids(audits)


def _of_unfinished(folder: Path, pending: Content | None) -> Iterator[Problem]:
    """Files that an unfinished build has lost; what it has written since is not its last word."""
    for segment in pending.segments if pending else ():
        for suffix, file in segment.files.items():
            name = f"{segment.name}.{suffix}"
            try:
                with open_plain(folder / name, "rb") as opened:
                    size = os.fstat(opened.fileno()).st_size
                if size < file.bytes:
                    what = f"has {size} bytes, the unfinished build had {file.bytes}"
                    yield Problem(name, None, what)
            except FileNotFoundError:
                yield Problem(name, None, "is missing, the unfinished build cannot go on")
            except RetrievalError as error:
                yield Problem(name, None, without_path(error, folder / name))


def _first_of_each_file(problems: Iterable[Problem]) -> Iterator[Problem]:
    counts: Counter[str] = Counter()
    for problem in problems:
        counts[problem.file] += 1
        if counts[problem.file] <= MOST:
            yield problem
    for file, count in counts.items():
        if count > MOST:
            yield Problem(file, None, f"has {count - MOST:,} more problems")


def _leftovers(folder: Path, manifest: Manifest) -> list[str]:
    """The files of ours that no manifest names, by name."""
    half_written = [path.name for path in folder.iterdir() if path.name == f"{NAME}.tmp"]
    return sorted([*half_written, *(path.name for path in orphans(folder, manifest))])


def _remove_leftovers(session: Session, problems: Sequence[Problem]) -> Iterator[str]:
    for name in _leftovers(session.folder, session.manifest):
        (session.folder / name).unlink(missing_ok=True)
        yield f"removed {name}, left by a writer that did not finish"


def _remake_files(session: Session, problems: Sequence[Problem]) -> Iterator[str]:
    """Write what can be made from sound rows again, in a commit of its own."""
    content, files = session.manifest.published, {problem.file for problem in problems}
    truth = {file.partition(".")[0] for file in files if not is_derived(file)}
    files = {file for file in files if file.partition(".")[0] not in truth}
    if content is None or (rest := without(content, files)) == content:
        return
    generation = session.manifest.generation + 1
    remade = with_every_file(session.folder, rest, SIDECARS, {})
    sync_folder(session.folder)
    session.write(replace(session.manifest, generation=generation, published=remade))
    for before, after in zip(rest.segments, remade.segments, strict=True):
        for suffix in sorted(after.files.keys() - before.files.keys()):
            yield f"made {after.name}.{suffix} again from the rows"


# Each puts right what it can under the writer's lock, and says what it has done.
REPAIRS: list[Repair] = [_remake_files, _remove_leftovers]


def _repair(folder: Path, problems: Sequence[Problem]) -> tuple[str, ...]:
    try:
        session = Session(folder, lambda: None, make=False)
    except IndexCorrupt:
        return ()  # without a manifest that holds nobody knows what is left over
    try:
        with refusals(folder):
            return tuple(line for repair in REPAIRS for line in repair(session, problems))
    finally:
        session.close()
