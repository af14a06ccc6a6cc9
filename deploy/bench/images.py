"""What the images of a swarm contain: random bytes, or a raw disk with a file system of this machine's own files.

`CONTENTS[name](folder, mib)` answers with the paths of an older version, which nodes hold already (or None), and of the
image that is fetched. Files are chosen by a fixed seed, so one machine makes the same images again. Needs `mkfs.ext4`.
"""

import os
import random
import shutil
import subprocess

SEED = 20
BLOCK_BYTES = 4 << 20
SOURCES = ("/usr/lib", "/usr/bin", "/usr/share")
# Of the disk; the rest is the file system's own tables, and zeros.
FILLED = 0.65
# Of the disk's bytes, what is new in the next version.
CHANGED = 0.08
EXTENT_BYTES = 64 << 10
FILE_SYSTEM_BLOCK_BYTES = 4096
# No file is more than this part of the disk, lest a small disk be two libraries.
LARGEST_PART = 32


class Files:
    """Files of this machine, directory by directory in a random order, each handed out once."""

    def __init__(self, largest):
        found = []
        for source in SOURCES:
            for folder, below, names in os.walk(source):
                below.sort()
                found.append([os.path.join(folder, name) for name in sorted(names)])
        random.Random(SEED).shuffle(found)
        self.left = (path for paths in found for path in paths if fits(path, largest))

    def take(self, wanted):
        """As many as fill so many bytes of a file system."""
        taken = []
        while wanted > 0:
            if (path := next(self.left, None)) is None:
                raise RuntimeError(f"{', '.join(SOURCES)} do not have enough files for so large an image")
            taken.append(path)
            wanted -= blocks_bytes(path)
        return taken


def fits(path, largest):
    """Whether it is a file with something in it, and not too large."""
    return os.path.isfile(path) and not os.path.islink(path) and 0 < os.path.getsize(path) <= largest


def blocks_bytes(path):
    """What a file takes in a file system."""
    return -(-os.path.getsize(path) // FILE_SYSTEM_BLOCK_BYTES) * FILE_SYSTEM_BLOCK_BYTES


def random_bytes(folder, mib):
    """Nothing repeats, nothing is zero, nothing can be compressed: every byte has to be sent."""
    path = f"{folder}/image"
    with open(path, "wb") as out:
        for _ in range(0, mib << 20, BLOCK_BYTES):
            out.write(os.urandom(BLOCK_BYTES))
    return None, path


def raw_os(folder, mib):
    """A raw disk of an ext4 file system, two thirds full of programs, libraries and their data."""
    path = f"{folder}/image"
    disk(path, mib, [(source, source) for source in files_of(mib).take(FILLED * (mib << 20))], folder)
    return None, path


def updated_in_place(folder, mib):
    """Such a disk, and the same after a part of it was overwritten with other files, in extents anywhere."""
    files, before, path = files_of(mib), f"{folder}/before", f"{folder}/image"
    disk(before, mib, [(source, source) for source in files.take(FILLED * (mib << 20))], folder)
    shutil.copyfile(before, path)
    extents = int(CHANGED * (mib << 20)) // EXTENT_BYTES
    new = b"".join(map(content, files.take(extents * EXTENT_BYTES + BLOCK_BYTES)))
    places = random.Random(SEED).sample(range((mib << 20) // EXTENT_BYTES), extents)
    with open(path, "r+b") as out:
        for at, place in enumerate(places):
            out.seek(place * EXTENT_BYTES)
            out.write(new[at * EXTENT_BYTES:(at + 1) * EXTENT_BYTES])
    return before, path


def updated_rebuilt(folder, mib):
    """Such a disk, and a new one: directories written in another order, half of what is new in files that were there,
    the other half in more files. Nearly everything lies elsewhere."""
    files, before, path = files_of(mib), f"{folder}/before", f"{folder}/image"
    kept = files.take(FILLED * (mib << 20))
    disk(before, mib, [(source, source) for source in kept], folder)
    half, chance = CHANGED * (mib << 20) / 2, random.Random(SEED)
    changed = dict(zip(chance.sample(kept, len(kept)), files.take(half)))
    by_folder = {}
    for place in kept + files.take(half):
        by_folder.setdefault(os.path.dirname(place), []).append((place, changed.get(place, place)))
    order = chance.sample(sorted(by_folder), len(by_folder))
    disk(path, mib, [pair for name in order for pair in by_folder[name]], folder)
    return before, path


def files_of(mib):
    """Files for a disk of a size."""
    return Files((mib << 20) // LARGEST_PART)


def content(path):
    """All of a file."""
    with open(path, "rb") as source:
        return source.read()


def disk(path, mib, pairs, folder):
    """Make a file system that has, at each first path, what is at the second now."""
    tree = f"{folder}/tree"
    for place, source in pairs:
        os.makedirs(os.path.dirname(tree + place), exist_ok=True)
        shutil.copyfile(source, tree + place)
    with open(path, "wb") as out:
        out.truncate(mib << 20)
    # No blocks are set aside for root, and nothing is left for the kernel to write at the first mount.
    subprocess.run(("mkfs.ext4", "-q", "-F", "-b", str(FILE_SYSTEM_BLOCK_BYTES), "-m", "0",
                    "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d", tree, path), check=True)
    shutil.rmtree(tree)


CONTENTS = {
    "random": random_bytes, "raw-os": raw_os,
    "updated-in-place": updated_in_place, "updated-rebuilt": updated_rebuilt,
}
