"""Payloads in files: the journal keeps the path, a folder that all workers see keeps the value."""

import errno
import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote
from uuid import uuid4

from perdure.config import to_word
from perdure.model.word import Word
from perdure.serdes import EXTENDED_TYPES_SERDES, RetryableSerDesError, SerDes, SerDesContext, SerDesError

__all__ = [
    "FileSystemPathEncoding",
    "FileSystemSerDes",
    "FileSystemSerDesConfig",
    "FileSystemSerDesMode",
    "GeneratePreview",
]

INLINE_BYTES_MAX: Final = 255 * 1024
"""A checkpoint's payload may have 256 KiB; one of them is left for what stands around it."""


class FileSystemSerDesMode(Word):
    """Whether every value goes into a file, or only one that is too large for a payload."""

    ALWAYS = "ALWAYS"
    OVERFLOW = "OVERFLOW"


class FileSystemPathEncoding(Word):
    """How files are named: readably, or by SHA-256, whose length no file system minds."""

    URI = "URI"
    HASH = "HASH"


class GeneratePreview(Protocol):
    """What the journal is to show of a value that is in a file; None for nothing. See `perdure.preview`."""

    def __call__(self, value: Any) -> dict[str, Any] | None: ...


@dataclass(frozen=True)
class FileSystemSerDesConfig:
    """`serdes` writes what the file holds."""

    storage_mode: FileSystemSerDesMode = FileSystemSerDesMode.ALWAYS
    path_encoding: FileSystemPathEncoding = FileSystemPathEncoding.URI
    generate_preview: GeneratePreview | None = None
    serdes: SerDes[Any] = EXTENDED_TYPES_SERDES

    def __post_init__(self) -> None:
        mode = to_word(FileSystemSerDesMode, self.storage_mode, "storage_mode")
        encoding = to_word(FileSystemPathEncoding, self.path_encoding, "path_encoding")
        object.__setattr__(self, "storage_mode", mode)
        object.__setattr__(self, "path_encoding", encoding)


class FileSystemSerDes(SerDes[Any]):
    """Keeps values in files below `base_path`, which every worker must see under the same path.

    A payload is `{"data": text}`, or `{"file": path}` with a "preview" if one is made. A file is on disk before the
    checkpoint that refers to it. Nothing is written or read outside `base_path`, whatever a payload says.

    Raises SerDesError, or RetryableSerDesError where the file system may do better later.
    """

    def __init__(self, base_path: "str | os.PathLike[str]", config: FileSystemSerDesConfig | None = None) -> None:
        self._base = Path(base_path)
        self._config = config or FileSystemSerDesConfig()

    def serialize(self, value: Any, serdes_context: SerDesContext) -> str:
        config = self._config
        data = config.serdes.serialize(value, serdes_context)
        if not isinstance(data, str):
            raise SerDesError(f"{type(config.serdes).__name__} wrote {data!r}; a file needs a text")
        if config.storage_mode is FileSystemSerDesMode.OVERFLOW:
            inline = json.dumps({"data": data})
            if len(inline) <= INLINE_BYTES_MAX:  # it is ASCII
                return inline
        path = self._path(serdes_context)
        try:
            _write(path, data)
        except OSError as error:
            raise _serdes_error("written", path, error) from error
        envelope: dict[str, Any] = {"file": str(path)}
        preview = config.generate_preview(value) if config.generate_preview is not None else None
        if preview:
            envelope["preview"] = preview
        return json.dumps(envelope)

    def deserialize(self, data: str, serdes_context: SerDesContext) -> Any:
        envelope = json.loads(data)
        if not isinstance(envelope, dict) or not ("file" in envelope or "data" in envelope):
            raise SerDesError(
                'the payload is not of FileSystemSerDes: {"file": path} or {"data": text} was expected, '
                f"{data[:80]!r} found; was it recorded before this serdes was set?"
            )
        if "file" not in envelope:
            return self._config.serdes.deserialize(envelope["data"], serdes_context)
        return self._config.serdes.deserialize(self._read(envelope["file"]), serdes_context)

    def _read(self, path: Any) -> str:
        base = self._base.resolve()
        if not isinstance(path, str) or not Path(path).resolve().is_relative_to(base):
            raise SerDesError(
                f"the payload refers to the file {path!r}, which is not below {base}; "
                "if the folder was moved, mount it under its former path"
            )
        try:
            return Path(path).read_bytes().decode()
        except OSError as error:
            raise _serdes_error("read", Path(path), error) from error

    def _path(self, context: SerDesContext) -> Path:
        arn, operation = context.durable_execution_arn, context.operation_id
        if self._config.path_encoding is FileSystemPathEncoding.HASH:
            return self._base / _hash(arn) / f"{_hash(operation)}.json"
        return self._base.joinpath(*_folders(arn), f"{quote(operation, safe='')}.json")


_ARN: Final = re.compile(
    r"arn:[^:]+:lambda:[^:]+:[^:]+:function:([^:/]+):[^:/]+/durable-execution/([^/]+)/([^/]+)", re.DOTALL
)
_ELSEWHERE: Final = frozenset({"", ".", ".."})


def _folders(arn: str) -> list[str]:
    """Function, execution's name and its last part; one folder for what is no such ARN, or would lead elsewhere."""
    found = _ARN.fullmatch(arn)
    if found is not None and all(_is_a_name(part) for part in found.groups()):
        return list(found.groups())
    one = quote(arn, safe="")
    return [one.replace(".", "%2E") if one in _ELSEWHERE else one] if one else []


def _is_a_name(part: str) -> bool:
    return part not in _ELSEWHERE and not any(mark in part for mark in ("\0", os.sep, os.altsep or os.sep))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- files -------------------------------------------------------------------------------------------------------


def _write(path: Path, data: str) -> None:
    """Write a file so that it is whole under its name, or not there; it and its name are on disk at the return."""
    _make_folder(path.parent)
    draft = path.with_name(f".{uuid4().hex}.tmp")
    try:
        with draft.open("xb") as file:
            file.write(data.encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    _sync(path.parent)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Have a folder's names on disk; Windows does that by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_TRANSIENT: Final = frozenset(
    getattr(errno, name)
    for name in dir(errno)
    if name
    in {
        *("EAGAIN", "EBUSY", "EINTR", "EMFILE", "ENFILE", "ENOBUFS", "ENOLCK", "ENOMEM", "ENOSPC", "EDQUOT"),
        *("EIO", "EREMOTEIO", "ESTALE", "ETIMEDOUT", "ESHUTDOWN", "ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH"),
        *("ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "ENETDOWN", "ENETRESET", "ENETUNREACH"),
    }
)
"""What a network's file system, or one that is full or busy, may say once and not again."""


def _serdes_error(action: str, path: Path, error: OSError) -> Exception:
    text = f"the file {path} can't be {action}: {error.strerror or error}"
    if error.errno in _TRANSIENT:
        return RetryableSerDesError(text)
    if error.errno == errno.ENAMETOOLONG:
        text += "; use path_encoding=FileSystemPathEncoding.HASH"
    return SerDesError(text)
