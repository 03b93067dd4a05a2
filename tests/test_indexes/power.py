"""What a disk may hold after a power cut: all that was waited for, and any part of the rest."""

import os


class PowerCut:
    """Keeps what the disk is certain to hold, and makes up what else it may hold.

    Give :meth:`after` to a ``faults.Disk``. ``images`` are the folders that a cut may leave, each
    with what was ``kept`` by then: names and contents, or None where the folder itself is gone.
    """

    def __init__(self, folder):
        self.folder = folder
        self.kept = 0
        self.images = {}
        self.waited_for = self._now() if folder.is_dir() else {}
        self.content = {p.stat().st_ino: p.read_bytes() for p in self._paths()}
        self._unsafe = {path for path in (folder, *folder.parents) if not path.exists()}

    def _paths(self):
        return list(self.folder.iterdir()) if self.folder.is_dir() else []

    def _now(self):
        return {path.name: path.stat().st_ino for path in self._paths()}

    def after(self, kind, name):
        if name == "." and kind == "fsync":
            self.waited_for = self._now()
        elif kind == "fsync" and (self.folder / name).is_file():
            path = self.folder / name
            self.content[path.stat().st_ino] = path.read_bytes()
        elif kind == "fsync":  # of a folder above
            self._unsafe -= {path for path in self._unsafe if path.parent.name == name}
        elif kind == "create" and self.folder.is_dir():
            self.content[(self.folder / name).stat().st_ino] = b""
        self.collect()

    def collect(self, acknowledged=False):
        """Every mixture of names and bytes that did and did not reach the disk in time."""
        if self._unsafe or not self.folder.is_dir():
            self.images[None, acknowledged] = self.kept
        written = {path.stat().st_ino: path.read_bytes() for path in self._paths()}
        for names in self._names():
            for contents in self._contents(written, set(names.values())):
                image = {name: contents[inode] for name, inode in names.items()}
                self.images[frozenset(image.items()), acknowledged] = self.kept

    def _names(self):
        """No change of a name since the last wait, all, each alone, and all but each."""
        before, now = self.waited_for, self._now()
        changed = [n for n in {**before, **now} if before.get(n) != now.get(n)]
        yield from (before, now)
        for name in changed if len(changed) > 1 else ():
            yield _with(before, name, now.get(name))
            yield _with(now, name, before.get(name))

    def _contents(self, written, inodes):
        """Of what was not waited for nothing, zeros, half or all: of all files or of one."""
        whole = {inode: written.get(inode, self.content[inode]) for inode in inodes}
        yield whole
        unsafe = [inode for inode in inodes if whole[inode] != self.content[inode]]
        for way in (_nothing, _zeros, _half):
            parts = {i: way(self.content[i], whole[i]) for i in unsafe}
            yield {**whole, **parts}
            for inode in unsafe if len(unsafe) > 1 else ():
                yield {**whole, inode: parts[inode]}


def _with(names, name, inode):
    """The names with another one, or without it."""
    rest = {n: i for n, i in names.items() if n != name}
    return rest if inode is None else {**rest, name: inode}


def _nothing(safe, whole):
    return safe


def _zeros(safe, whole):
    return safe + bytes(max(len(whole) - len(safe), 0))


def _half(safe, whole):
    return safe + whole[len(safe) : (len(safe) + len(whole)) // 2]


def after_the_cut(image, folder):
    """Put the folder there as the disk has it."""
    if image is None:
        return
    os.makedirs(folder)
    for name, content in image:
        (folder / name).write_bytes(content)
