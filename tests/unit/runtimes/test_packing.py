"""From folders of code to deployment packages."""

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from perdure.model.error import InvalidParameterValue
from perdure.runtimes import packages, packing
from perdure.runtimes.packing import built_by_sam, pack, pack_texts, state_of
from support.packages import package, sha256


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"# {name}\n")


def names(zip_bytes: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(zip_bytes)).namelist()


@given(
    st.dictionaries(
        st.from_regex(r"([a-z]{1,3}/){0,2}[a-z]{1,3}\.py", fullmatch=True), st.binary(max_size=50), min_size=1
    )
)
def test_the_same_files_make_the_same_package_whenever_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    made: list[bytes] = []
    for order, when in ((sorted(files), 1_000_000_000), (sorted(files, reverse=True), 1_700_000_000)):
        folder = tmp_path_factory.mktemp("code")
        for name in order:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(files[name])
            os.utime(folder / name, (when, when))
        made.append(pack(folder))
    assert made[0] == made[1]
    packages.check(made[0])
    archive = zipfile.ZipFile(io.BytesIO(made[0]))
    assert {name: archive.read(name) for name in archive.namelist()} == files


def test_what_is_packed_can_be_unpacked_with_its_links_and_permissions(tmp_path: Path) -> None:
    write(tmp_path, "code/app.py", "code/bin/run", "elsewhere/shared.py", "other.txt")
    code = tmp_path / "code"
    (code / "bin" / "run").chmod(0o755)
    (code / "alias.py").symlink_to("app.py")
    (code / "shared").symlink_to(tmp_path / "elsewhere")
    (code / "other.txt").symlink_to("../other.txt")
    (code / "absolute.py").symlink_to(code / "app.py")
    (code / "around.py").symlink_to("../code/app.py")
    (code / "nowhere").symlink_to("nothing")
    made = pack(code)
    folder = packages.unpack(made, sha256(made), tmp_path / "cache")
    assert names(made) == ["absolute.py", "alias.py", "app.py", "around.py", "bin/run", "other.txt", "shared/shared.py"]
    assert (folder / "alias.py").readlink() == Path("app.py")
    assert (folder / "other.txt").read_text() == "# other.txt\n"
    assert not (folder / "absolute.py").is_symlink() and not (folder / "around.py").is_symlink()
    assert (folder / "absolute.py").read_text() == "# code/app.py\n"
    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in ("app.py", "bin/run")}
    assert modes == {"app.py": 0o444, "bin/run": 0o555}


def test_what_nobody_runs_stays_out(tmp_path: Path) -> None:
    write(tmp_path, "app.py", "lib/__pycache__/x.pyc", "lib/y.pyc", "lib/z.py", ".git/config", ".venv/bin/python")
    write(tmp_path, ".aws-sam/build/F/app.py", "node_modules/.cache/a", "node_modules/m/index.js", ".cache/kept")
    write(tmp_path, "perdure.db", "perdure.db-wal", ".perdure/logs/x", "my.db", "my.db-wal", "my.db-shm", "a-wal")
    assert names(pack(tmp_path)) == [".cache/kept", "a-wal", "app.py", "lib/z.py", "node_modules/m/index.js"]


def test_a_link_in_circles_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "code/app.py")
    (tmp_path / "code" / "again").symlink_to(tmp_path)
    with pytest.raises(InvalidParameterValue, match="deeper than 64, or in circles"):
        pack(tmp_path / "code")


def test_a_zip_file_is_taken_as_it_is_and_one_file_is_packed(tmp_path: Path) -> None:
    (tmp_path / "code.zip").write_bytes(given := package({"app.py": "x"}))
    write(tmp_path, "app.py")
    assert pack(tmp_path / "code.zip") == given
    assert pack(tmp_path / "app.py") == pack_texts({"app.py": "# app.py\n"})


def test_a_package_has_code_and_not_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidParameterValue, match="there is no code in"):
        pack(tmp_path / "empty")
    with pytest.raises(InvalidParameterValue, match=r"the folder .* can't be read"):
        pack(tmp_path / "none")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(packages.UNPACKED_BYTES_MAX + 1)
    with pytest.raises(InvalidParameterValue, match="holds more than 262144000 bytes"):
        pack(tmp_path)
    monkeypatch.setattr(packing, "ENTRIES_MAX", 3)
    write(tmp_path, "a", "b", "c")
    with pytest.raises(InvalidParameterValue, match="more than 3 files"):
        state_of(tmp_path)


def test_a_state_changes_with_what_is_in_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "app.py", "lib/a.py")
    before = state_of(tmp_path)
    assert state_of(tmp_path) == before
    os.utime(tmp_path / "lib" / "a.py", (1, 1))
    after = state_of(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"lib/a.py"}
    (tmp_path / "app.py").unlink()
    assert list(state_of(tmp_path)) == ["lib/a.py"]
    assert state_of(tmp_path / "app.py") == {}


def test_what_sam_has_built_is_used_while_it_is_newer_than_the_source(tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    write(tmp_path, "src/app.py")
    assert built_by_sam(template, "Order", tmp_path / "src") is None
    write(tmp_path, ".aws-sam/build/template.yaml", ".aws-sam/build/Order/app.py")
    built = tmp_path / ".aws-sam" / "build" / "Order"
    os.utime(built.parent / "template.yaml", (2_000_000_000, 2_000_000_000))
    assert built_by_sam(template, "Order", tmp_path / "src") == (built, True)
    assert built_by_sam(template, "Other", tmp_path / "src") is None
    assert built_by_sam(template, "Order", built) is None
    os.utime(tmp_path / "src" / "app.py", (2_100_000_000, 2_100_000_000))
    assert built_by_sam(template, "Order", tmp_path / "src") == (built, False)
