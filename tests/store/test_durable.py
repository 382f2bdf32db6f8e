"""Every write is whole or absent, whatever call fails, and durable when it returns."""

from __future__ import annotations

import errno
import os

import pytest
from fake_disks import Died, FaultyDisk, FullDisk, PowerDisk

from streamclust.core.errors import DurabilityError, SinkUnavailable
from streamclust.store.durable import AppendFile, RealDisk, failure, make_dir, sweep_tmp, sync_dir, write_file

OLD, NEW = b"old content", b"the new content, which is longer"


def failing(number):
    return OSError(number, os.strerror(number))


def calls_of_write_file(directory):
    disk = FaultyDisk()
    write_file(directory / "count", NEW, disk)
    return disk.calls


def test_the_protocol_is_write_fsync_rename_fsync_of_the_directory(tmp_path):
    assert calls_of_write_file(tmp_path) == [
        *("open", "write", "fsync", "close"),
        "rename",
        *("open", "fsync", "close"),
    ]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE])
def test_a_failure_of_any_single_call_leaves_the_old_or_the_new_content(tmp_path, number):
    for at in range(len(calls_of_write_file(tmp_path))):
        path = tmp_path / f"file{at}"
        path.write_bytes(OLD)
        disk = FaultyDisk(at, failing(number), half=True)

        try:
            write_file(path, NEW, disk)
        except (SinkUnavailable, DurabilityError):
            assert path.read_bytes() in (OLD, NEW)
        else:
            assert disk.calls[at] == "close"
            assert path.read_bytes() == NEW
        assert not list(tmp_path.glob(".*.tmp"))
        write_file(path, NEW)
        assert path.read_bytes() == NEW


@pytest.mark.parametrize("half", [False, True])
def test_death_at_any_call_leaves_the_old_or_the_new_content(tmp_path, half):
    seen = set()
    for at in range(len(calls_of_write_file(tmp_path))):
        path = tmp_path / f"file{at}"
        path.write_bytes(OLD)

        with pytest.raises(Died):
            write_file(path, NEW, FaultyDisk(at, Died(), half=half))

        seen.add(path.read_bytes())
        sweep_tmp(tmp_path)
        assert not list(tmp_path.glob(".*.tmp"))
    assert seen == {OLD, NEW}


def test_a_power_cut_at_any_call_leaves_the_old_or_the_new_content_and_the_new_after_the_return(tmp_path):
    path = tmp_path / "file"
    for at in range(50):
        disk = PowerDisk({"file": OLD})
        disk.die_at = at
        try:
            write_file(path, NEW, disk)
        except Died:
            assert set(disk.after_cut("file")) <= {OLD, NEW}
        else:
            assert set(disk.after_cut("file")) == {NEW}
            return
    pytest.fail("write_file never returned")


@pytest.mark.parametrize("which", ["fsync of the file", "fsync of the directory"])
def test_a_failed_fsync_is_a_durability_error_even_when_the_disk_is_full(tmp_path, which):
    at = [i for i, call in enumerate(calls_of_write_file(tmp_path)) if call == "fsync"][which.endswith("directory")]

    with pytest.raises(DurabilityError, match="fsync"):
        write_file(tmp_path / "file", NEW, FaultyDisk(at, failing(errno.ENOSPC)))


def test_a_file_system_without_fsync_for_directories_is_let_pass(tmp_path):
    sync_dir(tmp_path, FaultyDisk(1, failing(errno.EINVAL)))
    with pytest.raises(DurabilityError):
        sync_dir(tmp_path, FaultyDisk(1, failing(errno.EIO)))


def test_short_writes_are_continued(tmp_path):
    class Slow(RealDisk):
        def write(self, fd, data):
            return super().write(fd, data[:3])

    write_file(tmp_path / "file", NEW, Slow())

    assert (tmp_path / "file").read_bytes() == NEW


def test_a_write_that_takes_nothing_is_an_error_not_an_endless_loop(tmp_path):
    class Stuck(RealDisk):
        def write(self, fd, data):
            return 0

    with pytest.raises(DurabilityError, match="took nothing"):
        write_file(tmp_path / "file", NEW, Stuck())


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, SinkUnavailable, "free space"),
        (errno.EDQUOT, SinkUnavailable, "quota"),
        (errno.EROFS, SinkUnavailable, "remount"),
        (errno.EIO, DurabilityError, "start again"),
        (errno.EACCES, DurabilityError, "permissions"),
        (errno.EMFILE, DurabilityError, "start again"),
    ],
)
def test_the_message_names_the_path_and_what_to_do(tmp_path, number, kind, words):
    error = failure(failing(number), tmp_path / "file")

    assert type(error) is kind
    assert str(tmp_path / "file") in str(error)
    assert words in str(error)


def test_a_link_at_the_temporary_name_is_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(OLD)
    (tmp_path / f".file.{os.getpid()}.tmp").symlink_to(tmp_path / "precious")

    with pytest.raises(DurabilityError):
        write_file(tmp_path / "file", NEW)

    assert (tmp_path / "precious").read_bytes() == OLD


def test_directories_are_made_with_their_parents(tmp_path):
    make_dir(tmp_path / "a" / "b")
    make_dir(tmp_path / "a" / "b")

    assert (tmp_path / "a" / "b").is_dir()


def test_only_temporary_files_and_directories_are_swept(tmp_path):
    for name in (".file.1.tmp", "file", ".hidden", "a.tmp"):
        (tmp_path / name).touch()
    (tmp_path / ".3.1.tmp").mkdir()
    (tmp_path / ".3.1.tmp" / "weights").touch()

    assert sweep_tmp(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "a.tmp", "file"]


def test_appends_end_up_one_after_the_other_and_survive_reopening(tmp_path):
    for part in (b"one\n", b"two\n"):
        file = AppendFile(tmp_path / "log")
        file.append(part)
        file.sync()
        file.close()
        file.close()

    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
    with pytest.raises(ValueError, match="closed"):
        file.append(b"x")


def test_an_append_to_a_full_disk_leaves_nothing_and_works_when_there_is_room_again(tmp_path):
    disk = FullDisk(10, failing(errno.ENOSPC))
    file = AppendFile(tmp_path / "log", disk)
    file.append(b"whole\n")

    with pytest.raises(SinkUnavailable, match="free space"):
        file.append(b"torn line\n")
    assert (tmp_path / "log").read_bytes() == b"whole\n"

    disk.room = 100
    file.append(b"torn line\n")
    file.close()
    assert (tmp_path / "log").read_bytes() == b"whole\ntorn line\n"


def test_a_torn_tail_that_could_not_be_cut_is_cut_by_the_next_append(tmp_path):
    class Stubborn(FullDisk):
        stuck = True

        def truncate(self, fd, size):
            if self.stuck:
                raise failing(errno.EROFS)
            super().truncate(fd, size)

    disk = Stubborn(10, failing(errno.ENOSPC))
    file = AppendFile(tmp_path / "log", disk)
    file.append(b"whole\n")
    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            file.append(b"torn line\n")
    assert (tmp_path / "log").read_bytes() == b"whole\ntorn"

    disk.stuck, disk.room = False, 100
    file.append(b"next\n")
    file.close()
    assert (tmp_path / "log").read_bytes() == b"whole\nnext\n"


def test_a_failed_fsync_of_an_append_is_a_durability_error(tmp_path):
    disk = FaultyDisk()
    file = AppendFile(tmp_path / "log", disk)
    file.append(b"x")
    disk.at, disk.fault = len(disk.calls), failing(errno.EIO)

    with pytest.raises(DurabilityError):
        file.sync()
    file.close()


def test_a_file_is_cut_to_a_length_it_has(tmp_path):
    file = AppendFile(tmp_path / "log")
    file.append(b"0123456789")
    file.truncate(4)
    file.append(b"x")
    with pytest.raises(ValueError, match="cannot be cut"):
        file.truncate(6)
    file.close()

    assert (tmp_path / "log").read_bytes() == b"0123x"
