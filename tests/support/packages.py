"""Deployment packages made in a test: files by name, and entries that no honest tool would write."""

import base64
import hashlib
import io
import stat
import zipfile
from collections.abc import Mapping


def package(files: Mapping[str, str | bytes], *, executable: tuple[str, ...] = ()) -> bytes:
    """A zip file with these files."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            mode = 0o755 if name in executable else 0o644
            info.external_attr = (stat.S_IFREG | mode) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return target.getvalue()


def entries(*given: tuple[str, int, bytes]) -> bytes:
    """A zip file with entries of these names, Unix modes and contents, however strange."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, mode, content in given:
            info = zipfile.ZipInfo("placeholder")
            info.filename = info.orig_filename = name
            info.create_system = 3
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return target.getvalue()


def link(name: str, target: str) -> tuple[str, int, bytes]:
    return name, stat.S_IFLNK | 0o777, target.encode()


def file(name: str, content: bytes = b"x") -> tuple[str, int, bytes]:
    return name, stat.S_IFREG | 0o644, content


def sha256(zip_bytes: bytes) -> str:
    """The hash as the Lambda API writes it."""
    return base64.b64encode(hashlib.sha256(zip_bytes).digest()).decode()
