"""Deployment packages: what is refused, and what lies where once it is unpacked."""

import io
import os
import stat
import struct
import threading
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.model.error import InvalidParameterValue
from perdure.runtimes import packages
from perdure.runtimes.packages import check, unpack
from support.packages import entries, file, link, package, sha256


def refusal(zip_bytes: bytes) -> str:
    with pytest.raises(InvalidParameterValue) as caught:
        check(zip_bytes)
    return caught.value.message


def bomb(size: int) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(size))
    return target.getvalue()


def test_an_honest_package_passes() -> None:
    check(package({"app.py": "x = 1", "lib/deep/a.txt": "a", "empty": ""}))
    check(entries(file("lib/a"), link("lib/b", "a"), link("top", "lib/../lib/a"), link("self", ".")))


def test_what_is_no_zip_file_is_refused() -> None:
    assert "It is no zip file" in refusal(b"hello")
    assert "It is no zip file" in refusal(b"")
    assert "It is no zip file" in refusal(package({"a": "b"})[:-30])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/etc/passwd", "is an absolute path"),
        ("C:/windows", "is an absolute path"),
        ("../up", "leads out of the package"),
        ("a/../../up", "leads out of the package"),
        ("a/../b", "leads out of the package"),
        ("..\\up", "backslash"),
        ("a\\b", "backslash"),
        ("x" * 1025, "longer than 1024 bytes"),
    ],
)
def test_a_name_that_leads_away_is_refused(name: str, words: str) -> None:
    assert words in refusal(entries(file(name)))


def test_a_name_with_a_nul_character_is_refused() -> None:
    honest = entries(file("appXpy"))
    assert "NUL" in refusal(honest.replace(b"appXpy", b"app\0py"))


@pytest.mark.parametrize(
    "target",
    ["/etc/passwd", "../outside", "a/../../outside", "..", "d/up/../outside"],
)
def test_a_link_out_of_the_package_is_refused(target: str) -> None:
    assert "leads out of the package" in refusal(entries(link("d/up", ".."), link("evil", target)))


def test_a_link_that_leaves_by_way_of_another_is_refused() -> None:
    """By its names alone, d/up/.. is d; on a disk it is what lies above the package."""
    assert "leads out of the package" in refusal(entries(link("d/up", ".."), link("x", "d/up/..")))


def test_links_in_a_circle_are_refused() -> None:
    assert "circles" in refusal(entries(link("a", "b"), link("b", "a")))


def test_a_file_beneath_a_link_is_refused() -> None:
    assert "which is no folder" in refusal(entries(link("a", "lib"), file("a/b")))
    assert "which is no folder" in refusal(entries(file("a"), file("a/b")))


def test_a_device_is_refused() -> None:
    for kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK):
        assert "neither a file nor a folder" in refusal(entries(("dev", kind | 0o666, b"")))


def test_a_name_that_is_there_twice_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "is in it twice" in refusal(entries(file("a"), file("a")))
        assert "is in it twice" in refusal(entries(file("a/b"), file("a/./b")))


def test_too_many_entries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "ENTRIES_MAX", 3)
    check(package({str(n): "" for n in range(3)}))
    assert "4 entries, more than 3" in refusal(package({str(n): "" for n in range(4)}))


def test_a_bomb_is_refused_by_what_comes_out_of_it() -> None:
    assert refusal(bomb(packages.UNPACKED_BYTES_MAX + 1)) == "Unzipped size must be smaller than 262144000 bytes"


def test_a_header_that_lies_about_its_size_is_refused() -> None:
    """The size is at offset 22 of the local header and 24 of the central one."""
    honest = bytearray(bomb(1_000_000))
    small = struct.pack("<I", 10)
    central = honest.rindex(b"PK\x01\x02")
    honest[22:26] = small
    honest[central + 24 : central + 28] = small
    assert "can't be read" in refusal(bytes(honest))


def test_a_damaged_entry_is_refused() -> None:
    damaged = bytearray(entries(file("app.py", b"print('hello')")))
    at = damaged.index(b"hello")
    damaged[at : at + 5] = b"howdy"
    assert "'app.py' can't be read: Bad CRC-32" in refusal(bytes(damaged))


def test_an_encrypted_entry_is_refused() -> None:
    secret = bytearray(package({"a": "b"}))
    secret[6] |= 1
    secret[secret.rindex(b"PK\x01\x02") + 8] |= 1
    assert "is encrypted" in refusal(bytes(secret))


def test_a_package_of_another_method_is_refused() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", "b")
    assert "only 'deflate' and 'stored'" in refusal(target.getvalue())


def test_an_unpacked_package_keeps_its_executables_and_links_and_can_not_be_written(tmp_path: Path) -> None:
    content = entries(
        ("bin/", stat.S_IFDIR | 0o755, b""),
        ("bin/run", stat.S_IFREG | 0o755, b"#!/bin/sh\n"),
        file("lib/a.txt", b"hello"),
        link("lib/b.txt", "a.txt"),
    )
    folder = unpack(content, sha256(content), tmp_path)
    assert folder.parent == tmp_path
    assert os.access(folder / "bin/run", os.X_OK)
    assert (folder / "lib/b.txt").read_text() == "hello"
    assert (folder / "lib/b.txt").is_symlink()
    modes = [stat.S_IMODE(path.stat().st_mode) & 0o222 for path in [folder, *folder.rglob("*")]]
    assert set(modes) == {0}
    assert stat.S_IMODE((folder / "lib/a.txt").stat().st_mode) == 0o444


def test_a_package_is_unpacked_once(tmp_path: Path) -> None:
    content = package({"a.py": "1"})
    folder = unpack(content, sha256(content), tmp_path)
    made = (folder / "a.py").stat().st_ino
    assert unpack(content, sha256(content), tmp_path) == folder
    assert (folder / "a.py").stat().st_ino == made
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_a_power_failure_has_damaged_is_made_anew(tmp_path: Path) -> None:
    content = package({"a.py": "1", "lib/b.py": "2"})
    folder = unpack(content, sha256(content), tmp_path)
    (folder / "lib").chmod(0o700)
    (folder / "lib/b.py").unlink()
    (folder / "lib/b.py").touch()
    assert unpack(content, sha256(content), tmp_path) == folder
    assert (folder / "lib/b.py").read_text() == "2"
    assert list(tmp_path.iterdir()) == [folder]


def test_many_may_unpack_the_same_at_once(tmp_path: Path) -> None:
    content = package({f"{n}.txt": str(n) for n in range(50)})
    found: list[Path] = []

    def go() -> None:
        found.append(unpack(content, sha256(content), tmp_path))

    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 8
    assert len(list(found[0].iterdir())) == 50
    assert list(tmp_path.iterdir()) == [found[0]]


def test_bytes_of_another_hash_are_refused(tmp_path: Path) -> None:
    content = package({"a": "b"})
    with pytest.raises(InvalidParameterValue, match="the deployment package is damaged"):
        unpack(content, sha256(b"other"), tmp_path)
    with pytest.raises(InvalidParameterValue, match="is no SHA-256"):
        unpack(content, "../../etc", tmp_path)


@pytest.mark.parametrize("make", [lambda: entries(file("../up")), lambda: entries(link("evil", "/etc"))])
def test_unpacking_checks_again(make: Callable[[], bytes], tmp_path: Path) -> None:
    content = make()
    with pytest.raises(InvalidParameterValue):
        unpack(content, sha256(content), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_cache_lies_where_the_user_keeps_such_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert packages.default_cache() == Path("/cache/perdure/packages")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert packages.default_cache() == tmp_path / ".cache/perdure/packages"
    monkeypatch.setenv("HOME", "/no/such/home")
    assert packages.default_cache().name == "packages"


def test_a_folder_of_packages_given_relatively_is_found_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a server with `--data data`: functions start in folders of their own, where that means another place."""
    monkeypatch.chdir(tmp_path)
    made = package({"app.py": "x = 1"})
    assert unpack(made, sha256(made), Path("data")).is_absolute()


def test_code_is_not_put_where_others_can_write(tmp_path: Path) -> None:
    content = package({"a": "b"})
    tmp_path.chmod(0o777)
    with pytest.raises(InvalidParameterValue, match="can be written by others"):
        unpack(content, sha256(content), tmp_path)
