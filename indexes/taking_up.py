"""An interrupted build, taken up where it stopped."""

from dataclasses import replace

from indexes.build import Build
from indexes.errors import IndexCorrupt, IndexUnfinished
from indexes.manifest import Content
from indexes.session import Session

SAME_MODEL = ("fingerprint", "dtype")


def taken_up(session: Session, content: Content, *, overwrite: bool) -> tuple[Build, Content]:
    """Go on with the folder's unfinished build where it has the same model, else begin an empty
    one; with what it holds so far. ``overwrite`` drops one that does not fit or is damaged.
    """
    pending, empty = session.manifest.pending, Build(session.folder, content.dim, content.dtype)
    if pending is None:
        return empty, content
    try:
        same = all(content.model.get(key) == pending.model.get(key) for key in SAME_MODEL)
        if not same or (pending.dim, pending.dtype) != (content.dim, content.dtype):
            raise IndexUnfinished(
                f"{session.folder} holds an unfinished build with another model or dtype "
                f"({pending.model.get('name')}, {pending.model.get('dtype')})"
            )
        build = Build(session.folder, pending.dim, pending.dtype, pending.segments)
    except (IndexUnfinished, IndexCorrupt) as error:
        if not overwrite:
            raise type(error)(f"{error}; to start over, pass --overwrite") from error
        # The manifest first: the orphans it no longer names are removed after.
        session.write(replace(session.manifest, pending=content))
        return empty, content
    return build, replace(content, segments=pending.segments, source=pending.source)
