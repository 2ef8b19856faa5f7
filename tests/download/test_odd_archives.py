"""Archives that are not sound: the right file comes out of them, or one line says what is wrong."""

import bz2
import dataclasses
import gzip
import io
import lzma
import struct
import tarfile
import warnings
import zipfile
from pathlib import PurePosixPath

import pytest

from llava.benchmarks.__main__ import main
from llava.benchmarks.catalog import KNOWN
from llava.benchmarks.sources import ZipParts
from llava.download.archive import extract, local_members

TABLE = "mmbench_dev_20230712.tsv"
COLUMNS = "index question hint A B C D answer category image source l2-category comment split"
CONTENT = (
    "\t".join(COLUMNS.split()) + "\n1\tWhat?\t\ta\tb\tc\td\tA\tx\tUE5H\tx\tx\t\tdev\n"
).encode()


def tar(*members, end=True) -> bytes:
    """A tar of (name, content) or of TarInfo, in the order given."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
        stop = archive.offset
    return data.getvalue() if end else data.getvalue()[:stop]


def special(kind: bytes, name=TABLE, **more) -> tarfile.TarInfo:
    """A member that is no plain file."""
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in more.items():
        setattr(info, key, value)
    return info


def patched(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def summed(header: bytes) -> bytes:
    """A tar's header with the checksum that it should have."""
    blank = patched(header[:512], 148, b" " * 8)
    return patched(header, 148, b"%06o\0 " % sum(blank))


def with_size(field: bytes) -> bytes:
    """A tar whose first header says another size."""
    return summed(patched(tar((TABLE, CONTENT)), 124, field.ljust(12, b"\0")))


def pax(text: bytes, kind=tarfile.XHDTYPE) -> bytes:
    """A tar whose member follows a header of other settings."""
    record = next(b"%d %s\n" % (n, text) for n in range(9999) if len(b"%d %s\n" % (n, text)) == n)
    info = tarfile.TarInfo("settings")
    info.type, info.size = kind, len(record)
    return info.tobuf() + record.ljust(-len(record) // 512 * -512, b"\0") + tar((TABLE, CONTENT))


def zipped(*members, **settings) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", **settings) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two of one name
        for name, content in members:
            archive.writestr(name, content)
    return data.getvalue()


def listed(place: int, new: bytes, data=None) -> bytes:
    """A zip with other bytes at a place of its list's first entry."""
    data = zipped((TABLE, CONTENT)) if data is None else data
    return patched(data, data.index(b"PK\1\2") + place, new)


TAR, ZIP = tar((TABLE, CONTENT)), zipped((TABLE, CONTENT))
STORED = gzip.compress(TAR, 0)  # a flipped byte of it is still unpacked
TWO = tar(("first", b"x"), (TABLE, CONTENT))
RIGHT = {
    "all.tar": TAR,
    "all.tar.gz": gzip.compress(TAR),
    "all.tar.bz2": bz2.compress(TAR),
    "all.tar.xz": lzma.compress(TAR),
    "two streams.tar.gz": gzip.compress(TAR[:700]) + gzip.compress(TAR[700:]),
    "zeros behind.tar.gz": gzip.compress(TAR) + bytes(1000),
    "settings of no matter.tar": pax(b"comment=x"),
    "all.zip": ZIP,
    "a wrong count of entries.zip": patched(ZIP, len(ZIP) - 14, b"\xff\xff\xff\xff"),
    "something before.zip": b"#!/bin/sh\n" + ZIP,
    "one file twice.zip": zipped(("a/" + TABLE, CONTENT), ("b/" + TABLE, CONTENT)),
}
WRONG = {
    "nothing.zip": b"",
    "a page.tar.gz": b"<html>",
    "a flipped byte.tar.gz": patched(STORED, STORED.index(b"What?"), b"w"),
    "another checksum.tar.gz": patched(STORED, len(STORED) - 8, b"????"),
    "another length.tar.gz": patched(STORED, len(STORED) - 4, b"????"),
    "no checksum.tar.gz": STORED[:-8],
    "a byte less.tar.gz": STORED[:-1],
    "cut in the middle.tar.gz": gzip.compress(TAR)[:80],
    "cut in the head.tar.gz": gzip.compress(TAR)[:12],
    "text behind.tar.gz": gzip.compress(TAR) + b"text",
    "a flipped byte.tar.bz2": patched(bz2.compress(TAR), 60, b"?"),
    "a flipped byte.tar.xz": patched(lzma.compress(TAR), 90, b"????"),
    "cut between members.tar": tar(("first", b"x"), (TABLE, CONTENT), end=False),
    "cut in a member.tar": TAR[:600],
    "cut in a header.tar": tar(("first", b"x"), (TABLE, CONTENT), end=False)[:1200],
    "a damaged second header.tar": patched(tar((TABLE, CONTENT), ("second", b"x")), 1024, b"zzzz"),
    "a second tar behind.tar": TAR + tar(("second", b"x")),
    "text behind.tar": TAR + b"text",
    "a negative size.tar": with_size(b"\xff" * 11 + b"\x00"),
    "a size of 10^20.tar": with_size(b"\x80\0\0" + struct.pack(">Q", 2**63) + b"\0"),
    "a size of 8 GB.tar.gz": gzip.compress(with_size(b"77777777777")),
    "a size of letters.tar": with_size(b"many"),
    "a negative size in settings.tar": pax(b"size=-1024"),
    "a size of words in settings.tar": pax(b"size=many"),
    "a size of 10^400 in settings.tar": pax(b"size=1" + b"0" * 400),
    "holes in settings.tar": pax(b"GNU.sparse.map=0,many"),
    "settings within settings.tar": b"".join([pax(b"comment=x")[:1024]] * 2000) + TAR,
    "a name of 8 GB.tar": summed(
        patched(special(tarfile.GNUTYPE_LONGNAME).tobuf(), 124, b"77777777777\0")
    )
    + bytes(99_999),
    "a file with holes.tar": special(tarfile.GNUTYPE_SPARSE, size=10**12).tobuf() + bytes(1024),
    "a symbolic link.tar": tar(special(tarfile.SYMTYPE, linkname="/etc/passwd")),
    "a hard link.tar": tar(special(tarfile.LNKTYPE, linkname="../../etc/passwd")),
    "a device.tar": tar(special(tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "a pipe.tar": tar(special(tarfile.FIFOTYPE)),
    "a folder.tar": tar(special(tarfile.DIRTYPE)),
    "one name twice.tar": tar((TABLE, CONTENT), (TABLE, b"other")),
    "two for one place.zip": zipped(("a/" + TABLE, CONTENT), ("b/" + TABLE, b"other")),
    "one name twice.zip": zipped((TABLE, CONTENT), (TABLE, b"other")),
    "cut.zip": ZIP[:-30],
    "another checksum.zip": listed(16, b"????"),
    "a flipped byte.zip": patched(ZIP, ZIP.index(b"What?"), b"w"),
    "a size of 4 GB.zip": listed(24, b"\xff\xff\xff\xfe"),
    "a size that is too long.zip": listed(24, struct.pack("<I", len(CONTENT) + 9)),
    "a size that is too short.zip": listed(24, struct.pack("<I", len(CONTENT) - 9)),
    "a packing that nobody knows.zip": listed(10, b"\x63\0"),
    "a password.zip": listed(8, b"\1\0"),
    "a version of 255.zip": listed(6, b"\xff\0"),
    "a place behind its end.zip": listed(42, b"\xff\xff\xff\x7f"),
    "another name at its place.zip": patched(ZIP, 30, b"zz"),
    "a name that is no text.zip": listed(46, b"\xff", listed(8, b"\0\x08")),
    "a symbolic link.zip": listed(38, struct.pack("<I", 0o120777 << 16)),
    "a list that is too long.zip": patched(ZIP, len(ZIP) - 10, b"\xff\xff\xff\x7f"),
    "a flipped byte, packed.zip": patched(
        zipped((TABLE, CONTENT), compression=zipfile.ZIP_DEFLATED), 90, b"????"
    ),
    "a flipped byte, packed with xz.zip": patched(
        zipped((TABLE, CONTENT), compression=zipfile.ZIP_LZMA), 90, b"????"
    ),
    "a flipped byte, packed with bz2.zip": patched(
        zipped((TABLE, CONTENT), compression=zipfile.ZIP_BZIP2), 90, b"????"
    ),
}


def unpack(name, tmp_path):
    """The command on a folder that has the archive; its exit status."""
    source = ZipParts(f"http://127.0.0.1:9/{name}", rf"(?:.*/)?({TABLE})", "")
    record = dataclasses.replace(KNOWN["mmbench"], sources=(source,), questions={"": 1})
    return main(["download", "mmbench", "--data-root", str(tmp_path)], {"mmbench": record})


@pytest.mark.parametrize("name", [*RIGHT, *WRONG])
def test_the_right_file_or_one_line(tmp_path, capsys, name):
    folder = tmp_path / "mmbench"
    folder.mkdir()
    (folder / name).write_bytes((RIGHT | WRONG)[name])
    status = unpack(name, tmp_path)
    done = capsys.readouterr()
    if name in RIGHT:
        assert status == 0, done.out
        assert (folder / TABLE).read_bytes() == CONTENT
    else:
        assert status == 1, done.out
        lines = [line for line in done.out.splitlines() if line.startswith("BAD ")]
        assert len(lines) == 1 and len(lines[0]) < 1000 and "Traceback" not in done.err
    expected = {name, TABLE} if name in RIGHT else {name}
    assert {path.name for path in folder.iterdir()} == expected


NAMES = [
    *("../evil.tsv", "a/../../evil.tsv", "/tmp/evil.tsv", "a\\evil.tsv", "C:evil.tsv"),
    *("a\nb.tsv", "a\x1b[2Jb.tsv", "a\u202eb.tsv", "\udcffb.tsv", f"{'n' * 5000}.tsv"),
    *("a/" * 900 + "b.tsv", "x.lock", "x.partial", "x.edition"),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_would_be_no_file_in_the_folder(tmp_path, name):
    (tmp_path / "all.tar").write_bytes(tar((name, b"evil")))
    with local_members(tmp_path / "all.tar") as (members, hold):
        chosen = {PurePosixPath(member.name): member for member in members}
        with pytest.raises(Exception, match="would not be a file in its folder") as caught:
            extract(chosen, tmp_path / "out", "all.tar", hold)
    assert len(str(caught.value)) < 500 and str(caught.value).isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["all.tar"]


def read(content, path):
    """Unpacks all of an archive."""
    path.write_bytes(content)
    with local_members(path) as (members, hold):
        chosen = {PurePosixPath(member.name): member for member in members if member.is_file}
        extract(chosen, path.parent / "out", path.name, hold)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_any_bytes_are_an_archive_or_one_message(fuzz, tmp_path, kind):
    seeds = [data for name, data in (RIGHT | WRONG).items() if name.endswith(f".{kind}")]
    fuzz(lambda content: read(content, tmp_path / f"all.{kind}"), seeds)
