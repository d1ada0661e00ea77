"""Deployment packages: is a zip file safe to unpack, and where does it lie once it is unpacked?

What comes in is whatever somebody uploads. So a package is checked when it is taken and looked at again when it is
unpacked: nothing of it may end up outside its folder, and it may not grow beyond what it is allowed to be.

Source of the size limit: Lambda quotas, "deployment package (.zip file archive) size", 250 MB unzipped.
"""

import base64
import binascii
import hashlib
import io
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from perdure.model.error import InvalidParameterValue

UNPACKED_BYTES_MAX: Final = 262_144_000
ENTRIES_MAX: Final = 100_000
NAME_BYTES_MAX: Final = 1_024
LINK_BYTES_MAX: Final = 4_096
LINK_HOPS_MAX: Final = 40
CHUNK_BYTES: Final = 256 * 1024
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_BROKEN: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError)
"""What the standard library raises for zip files that are none, or are damaged."""

Path_ = tuple[str, ...]


class Entry(msgspec.Struct, frozen=True):
    """One entry whose name is known to be safe: `path` has no part that leads upwards or away."""

    info: zipfile.ZipInfo
    path: Path_
    link: str | None = None
    """Where a symbolic link leads, as the package says it."""

    @property
    def is_folder(self) -> bool:
        return self.info.is_dir() or stat.S_ISDIR(self.info.external_attr >> 16)

    @property
    def is_executable(self) -> bool:
        return bool((self.info.external_attr >> 16) & 0o111)


def check(zip_bytes: bytes) -> None:
    """Refuse a package that can't be unpacked, or should not be; it is inflated for that, and not kept.

    Raises InvalidParameterValue that names the entry: for what is no zip file, is damaged or encrypted, has absolute
    names, `..`, backslashes, devices, links out of the package, the same name twice, more than 100,000 entries, or more
    than 262,144,000 bytes once inflated (counted as they come, not as the file claims).
    """
    with _opened(zip_bytes) as archive:
        left = UNPACKED_BYTES_MAX
        for entry in _entries(archive):
            if entry.is_folder or entry.link is not None:
                continue
            for chunk in _chunks(archive, entry):
                left -= len(chunk)
                if left < 0:
                    raise _too_large()


def unpack(zip_bytes: bytes, sha256: str, cache_dir: Path | None = None) -> Path:
    """The folder with what is in a package, unpacked if it is not there yet.

    `sha256` is the base64 that the Lambda API calls CodeSha256, or hexadecimal; the folder is named by it. The files
    can be read and not written; those that were executable are. Another process may unpack the same at the same time:
    the folder appears complete or not at all. One that a power failure has damaged is made anew.

    Raises InvalidParameterValue as `check` does, and if the bytes do not have this hash.
    """
    name = hashlib.sha256(zip_bytes).hexdigest()
    if name != hex_of(sha256):
        raise InvalidParameterValue(f"the deployment package is damaged: its SHA-256 is {name}, not {hex_of(sha256)}")
    cache = (cache_dir or default_cache()).resolve()  # functions start in a folder of their own
    _claim(cache)
    folder = cache / name
    with _opened(zip_bytes) as archive:
        entries = list(_entries(archive))
        if folder.exists():
            if _is_whole(folder, entries):
                return folder
            _discard(folder)
        fresh = Path(tempfile.mkdtemp(prefix=f".{name[:16]}-", dir=cache))
        try:
            _write_all(archive, entries, fresh)
            _settle(fresh, folder)
        finally:
            if fresh.exists():
                remove(fresh)
    return folder


def default_cache() -> Path:
    """`perdure/packages` in `$XDG_CACHE_HOME`, or in `~/.cache`; for who has no home, among the temporary files."""
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        return Path(given, "perdure", "packages")
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - pathlib raises for who has none
    if home.is_absolute() and os.access(home, os.W_OK):
        return home / ".cache" / "perdure" / "packages"
    return Path(tempfile.gettempdir(), f"perdure-{os.getuid()}", "packages")


def _claim(cache: Path) -> None:
    """Make the folder; what others can write is no place for code that is run."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = cache.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        text = f"{cache} can be written by others, who could put code there: give another folder, or chmod 700"
        raise InvalidParameterValue(text)


def hex_of(sha256: str) -> str:
    """A SHA-256 in hexadecimal, whether it is given so or in base64; InvalidParameterValue if it is neither."""
    try:
        raw = bytes.fromhex(sha256) if len(sha256) == 64 else base64.b64decode(sha256, validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != 32:
        raise InvalidParameterValue(f"{sha256[:80]!r} is no SHA-256, in base64 or in hexadecimal")
    return raw.hex()


def remove(folder: Path) -> None:
    """Remove an unpacked package, or what there is of it; its folders can't be written, so they are made so first."""
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


# --- reading -----------------------------------------------------------------------------------------------------


def _opened(zip_bytes: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(zip_bytes))
    except _BROKEN as error:
        text = f"Could not unzip uploaded file. It is no zip file: {error}. Upload the bytes of a .zip archive."
        raise InvalidParameterValue(text) from None


def _entries(archive: zipfile.ZipFile) -> Iterator[Entry]:
    """All entries, once all of their names are known to be safe together."""
    infos = archive.infolist()
    if len(infos) > ENTRIES_MAX:
        raise _refused(f"it has {len(infos)} entries, more than {ENTRIES_MAX}")
    entries: dict[Path_, Entry] = {}
    for info in infos:
        entry = _entry(archive, info)
        if not entry.path:
            continue
        before = entries.get(entry.path)
        if before is not None and not (before.is_folder and entry.is_folder):
            raise _refused(f"{info.filename!r} is in it twice")
        entries[entry.path] = entry
    links = {entry.path: entry.link for entry in entries.values() if entry.link is not None}
    for entry in entries.values():
        for depth in range(1, len(entry.path)):
            above = entries.get(entry.path[:depth])
            if above is not None and not above.is_folder:
                raise _refused(f"{entry.info.filename!r} lies beneath {above.info.filename!r}, which is no folder")
        if entry.link is not None:
            _follow(entry, links)
    yield from entries.values()


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    """An entry by itself; InvalidParameterValue says what is wrong with it."""
    name, raw = info.filename, info.orig_filename
    mode = info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if "\0" in raw or not name:
        raise _refused(f"the name {raw[:80]!r} holds a NUL character or is empty")
    if "\\" in raw:
        raise _refused(f"{raw!r} has a backslash in its name; make the zip file with '/' between folders")
    if len(os.fsencode(name)) > NAME_BYTES_MAX:
        raise _refused(f"a name is longer than {NAME_BYTES_MAX} bytes: {name[:80]!r}…")
    if name.startswith("/") or (name[1:2] == ":" and name[0].isalpha()):
        raise _refused(f"{name!r} is an absolute path")
    path = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in path:
        raise _refused(f"{name!r} leads out of the package")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise _refused(f"{name!r} is neither a file nor a folder nor a link")
    if info.flag_bits & 0x1:
        raise _refused(f"{name!r} is encrypted")
    if info.compress_type not in _METHODS:
        raise _refused(f"{name!r} is compressed with method {info.compress_type}; only 'deflate' and 'stored' are read")
    link = _link_of(archive, info) if kind == stat.S_IFLNK else None
    return Entry(info, path, link)


def _link_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    raw = b"".join(_chunks(archive, Entry(info, ()), LINK_BYTES_MAX))
    try:
        link = raw.decode()
    except UnicodeDecodeError:
        raise _refused(f"the link {info.filename!r} leads to a name that is no UTF-8") from None
    if not link or "\0" in link or "\\" in link:
        raise _refused(f"the link {info.filename!r} leads nowhere")
    return link


def _follow(entry: Entry, links: Mapping[Path_, str]) -> None:
    """Walk where a link leads, through other links, as a file system would; refuse one that leaves the package."""
    assert entry.link is not None
    here: list[str] = list(entry.path[:-1])
    ahead = [entry.link]
    hops = 0
    while ahead:
        text = ahead.pop()
        if text.startswith("/"):
            raise _refused(f"the link {entry.info.filename!r} leads out of the package, to {entry.link!r}")
        first, _, rest = text.partition("/")
        if rest:
            ahead.append(rest.lstrip("/"))
        if first in ("", "."):
            continue
        if first == "..":
            if not here:
                raise _refused(f"the link {entry.info.filename!r} leads out of the package, to {entry.link!r}")
            here.pop()
            continue
        here.append(first)
        if (link := links.get(tuple(here))) is not None:
            hops += 1
            if hops > LINK_HOPS_MAX:
                raise _refused(f"the link {entry.info.filename!r} leads in circles")
            here.pop()
            ahead.append(link)


def _chunks(archive: zipfile.ZipFile, entry: Entry, limit: int = UNPACKED_BYTES_MAX) -> Iterator[bytes]:
    """What an entry holds; never more than `limit` bytes, whatever its header says."""
    left = limit
    try:
        with archive.open(entry.info) as source:
            while chunk := source.read(CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    raise _too_large() if limit == UNPACKED_BYTES_MAX else _refused("a link's target is too long")
                yield chunk
    except (*_BROKEN, RuntimeError) as error:
        raise _refused(f"{entry.info.filename!r} can't be read: {error}") from None


def _refused(why: str) -> InvalidParameterValue:
    return InvalidParameterValue(f"Could not unzip uploaded file. The deployment package is refused: {why}.")


def _too_large() -> InvalidParameterValue:
    return InvalidParameterValue(f"Unzipped size must be smaller than {UNPACKED_BYTES_MAX} bytes")


# --- writing -----------------------------------------------------------------------------------------------------


def _write_all(archive: zipfile.ZipFile, entries: list[Entry], root: Path) -> None:
    left = UNPACKED_BYTES_MAX
    made: set[Path] = set()
    for entry in entries:
        place = root.joinpath(*entry.path)
        parent = place if entry.is_folder else place.parent
        if parent not in made:
            parent.mkdir(parents=True, exist_ok=True)
            made.add(parent)
        if entry.link is not None:
            place.symlink_to(entry.link)
        elif not entry.is_folder:
            left = _write(archive, entry, place, left)
    for folder, _, _ in os.walk(root, topdown=False):
        if folder != str(root):
            Path(folder).chmod(0o555)


def _write(archive: zipfile.ZipFile, entry: Entry, place: Path, left: int) -> int:
    """Write one file; return how many bytes may still follow."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    mode = 0o555 if entry.is_executable else 0o444
    with open(os.open(place, flags, mode), "wb") as target:  # noqa: PTH123 - flags that pathlib has not
        for chunk in _chunks(archive, entry):
            left -= len(chunk)
            if left < 0:
                raise _too_large()
            target.write(chunk)
        os.fchmod(target.fileno(), mode)
    return left


def _settle(fresh: Path, folder: Path) -> None:
    """Give a complete folder its name; if another process was quicker, its folder is as good."""
    try:
        fresh.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    else:
        folder.chmod(0o555)


def _is_whole(folder: Path, entries: list[Entry]) -> bool:
    """Whether all is there in its size: after a power failure files may be empty whose names were on disk."""
    for entry in entries:
        try:
            found = os.lstat(folder.joinpath(*entry.path))
        except OSError:
            return False
        if entry.link is not None:
            is_same = stat.S_ISLNK(found.st_mode)
        elif entry.is_folder:
            is_same = stat.S_ISDIR(found.st_mode)
        else:
            is_same = stat.S_ISREG(found.st_mode) and found.st_size == entry.info.file_size
        if not is_same:
            return False
    return True


def _discard(folder: Path) -> None:
    """Take a damaged folder out of the way."""
    doomed = Path(tempfile.mkdtemp(prefix=".damaged-", dir=folder.parent))
    folder.chmod(0o700)
    folder.rename(doomed / "package")
    remove(doomed)
