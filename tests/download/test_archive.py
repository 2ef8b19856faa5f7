"""Members of archives: only what is wanted, nowhere else, and gone on with."""

import io
import os
import tarfile
import zipfile
from pathlib import PurePosixPath

import pytest

from llava.download.archive import extract, local_members, remote_members
from llava.download.line import Address
from llava.errors import UserError

FILES = {f"images/{n:03}.jpg": bytes([n]) * 40_000 for n in range(100)}


def make_zip(files, compression=zipfile.ZIP_STORED):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def unpack(archive, folder, wanted):
    with archive as (members, hold):
        chosen = {PurePosixPath(m.name): m for m in members if m.name in wanted}
        return extract(chosen, folder, "the archive", hold)


@pytest.fixture
def address(web, network):
    web.files["/all.zip"] = make_zip(FILES)
    return Address(f"{web.url}/all.zip", network=network)


def sent(web):
    """Bytes that the server gave."""
    parts = [part.removeprefix("bytes=").split("-") for part in web.fetched("/all.zip")]
    return sum(int(stop) - int(start) + 1 for start, stop in parts)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_few_members_of_a_zip_far_away_do_not_cost_the_whole(web, address, tmp_path, compression):
    web.files["/all.zip"] = make_zip(FILES, compression)
    wanted = ["images/003.jpg", "images/004.jpg", "images/090.jpg"]
    assert unpack(remote_members(address), tmp_path, wanted) == 3
    found = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*.jpg")}
    assert found == {name: FILES[name] for name in wanted}
    assert sent(web) < 300_000 < sum(map(len, FILES.values()))


def test_all_members_come_in_few_requests(web, address, tmp_path):
    assert unpack(remote_members(address), tmp_path, FILES) == 100
    assert len(web.requests) < 6


def test_what_is_there_and_right_is_left_alone(web, address, tmp_path):
    unpack(remote_members(address), tmp_path, FILES)
    (tmp_path / "images/001.jpg").write_bytes(b"cut short")
    (tmp_path / "images/002.jpg").write_bytes(b"!" * 40_000)  # its size is right
    kept = (tmp_path / "images/003.jpg").stat().st_mtime_ns
    assert unpack(remote_members(address), tmp_path, FILES) == 2
    assert (tmp_path / "images/002.jpg").read_bytes() == FILES["images/002.jpg"]
    assert (tmp_path / "images/003.jpg").stat().st_mtime_ns == kept


def test_an_unpacking_that_was_cut_goes_on(web, address, tmp_path):
    data = make_zip(FILES)
    web.files["/all.zip"] = data[:2_000_000] + bytes(2000) + data[2_002_000:]
    with pytest.raises(UserError, match="damaged"):
        unpack(remote_members(address), tmp_path, FILES)
    done = len(list(tmp_path.rglob("*.jpg")))
    assert 0 < done < 100 and not list(tmp_path.rglob("*.partial"))
    web.files["/all.zip"] = data
    assert unpack(remote_members(address), tmp_path, FILES) == 100 - done


def test_a_server_that_gives_no_parts(web, address, tmp_path):
    web.ranges = False
    with pytest.raises(Exception, match="does not give parts of it: fetch it whole"):
        unpack(remote_members(address), tmp_path, FILES)


def tricks(path):
    """Archives whose members would be written elsewhere."""
    with zipfile.ZipFile(path / "up.zip", "w") as archive:
        archive.writestr("good.txt", "good")
        archive.writestr("../../evil.txt", "evil")
    with zipfile.ZipFile(path / "root.zip", "w") as archive:
        archive.writestr("/tmp/evil.txt", "evil")
    with zipfile.ZipFile(path / "link.zip", "w") as archive:
        link = zipfile.ZipInfo("evil.txt")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with tarfile.open(path / "up.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("a/../../evil.txt")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
    with tarfile.open(path / "link.tar", "w") as archive:
        info = tarfile.TarInfo("evil.txt")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)


@pytest.mark.parametrize("name", ["up.zip", "root.zip", "link.zip", "up.tar.gz", "link.tar"])
def test_members_that_lead_astray_are_refused(tmp_path, name):
    tricks(tmp_path)
    target = tmp_path / "deep" / "target"
    with local_members(tmp_path / name) as (members, hold):
        chosen = {PurePosixPath(member.name): member for member in members}
        with pytest.raises(UserError, match="nothing was unpacked"):
            extract(chosen, target, name, hold)
    assert not target.exists() and not list(tmp_path.rglob("evil.txt"))


def test_a_tar_is_unpacked_too(tmp_path):
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert unpack(local_members(tmp_path / "all.tar.gz"), tmp_path / "out", FILES) == 100
    assert unpack(local_members(tmp_path / "all.tar.gz"), tmp_path / "out", FILES) == 0
    assert (tmp_path / "out/images/007.jpg").read_bytes() == FILES["images/007.jpg"]


@pytest.mark.parametrize("name", ["cut.zip", "cut.tar.gz", "text.zip"])
def test_an_archive_that_is_cut_short_is_one_message(tmp_path, name):
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("x")
        info.size = 100_000
        archive.addfile(info, io.BytesIO(bytes(range(250)) * 400))
    whole = make_zip(FILES) if name == "cut.zip" else (tmp_path / "all.tar.gz").read_bytes()
    content = b"<html>" if name == "text.zip" else whole[: len(whole) // 2]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="cut short|damaged"):
        unpack(local_members(tmp_path / name), tmp_path / "out", [*FILES, "x"])


def test_a_full_disk_is_one_message_and_the_same_call_goes_on(tmp_path):
    (tmp_path / "all.zip").write_bytes(make_zip(FILES))
    (tmp_path / "out/images").mkdir(parents=True)
    (tmp_path / f"out/images/050.jpg.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(UserError, match="no room left"):
        unpack(local_members(tmp_path / "all.zip"), tmp_path / "out", FILES)
    assert unpack(local_members(tmp_path / "all.zip"), tmp_path / "out", FILES) == 50
