import asyncio
import os
import resource
import threading

import pytest

from services.asr.sound import decoding, media_file
from services.asr.sound.decoding import decode
from services.asr.sound.scratch import ScratchFile
from services.asr.sound.spool import Spool
from services.asr.thread_work import run_to_end
from services.common.errors import Kind, ServiceError
from tests.unit.asr.audio_calls import FIELD, LIMITS, raw
from tests.unit.asr.audio_files import noise, wav


async def test_pieces_are_kept_in_order(tmp_path):
    pieces = [os.urandom(size) for size in (1, 700_000, 3, 2_000_000, 0, 5)]
    async with Spool(tmp_path / "made", 10_000_000, FIELD) as spool:
        for piece in pieces:
            await spool.write(piece)
        await spool.flush()
        assert spool.file.read(0, spool.size) == b"".join(pieces)
        assert list((tmp_path / "made").iterdir()) == []  # no name leads to it


async def test_more_than_the_limit_is_refused(tmp_path):
    async with Spool(tmp_path, 10, FIELD) as spool:
        await spool.write(b"0123456789")
        with pytest.raises(ServiceError, match="more than 10 bytes") as caught:
            await spool.write(b"0")
    assert (caught.value.kind, caught.value.field) == (Kind.INVALID_ARGUMENT, FIELD)


@pytest.fixture
def full_disk():
    """A limit on the size of files stands for a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_told(tmp_path, full_disk):
    async with Spool(tmp_path, 10_000_000, FIELD) as spool:
        with pytest.raises(ServiceError, match="no disk space") as caught:
            for _ in range(4):
                await spool.write(bytes(1_000_000))
    assert caught.value.kind is Kind.OVERLOADED
    assert caught.value.retry_after


async def test_a_disk_that_is_full_of_the_result_is_told(tmp_path, full_disk):
    async with Spool(tmp_path, 10_000_000, FIELD) as spool:
        await spool.write(bytes(400_000))
        with pytest.raises(ServiceError, match="no disk space") as caught:
            await decode(spool, raw(rate=4_000), LIMITS, separate_channels=False)
    assert caught.value.kind is Kind.OVERLOADED


async def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ServiceError, match="temporary files") as caught:
        async with Spool(tmp_path / "file", 10, FIELD):
            pass
    assert caught.value.kind is Kind.INTERNAL


async def test_cancelling_ends_the_decoding_and_frees_the_files(tmp_path, monkeypatch):
    begun, ended, files = threading.Event(), threading.Event(), []

    class Slow(media_file.MediaFile):
        def frames(self):
            for _ in range(10**6):
                for frame in super().frames():
                    begun.set()
                    yield frame
                self._container.seek(0)

        def __exit__(self, *reason):
            super().__exit__(*reason)
            ended.set()

    def counted(directory):
        files.append(ScratchFile(directory))
        return files[-1]

    monkeypatch.setattr(decoding, "MediaFile", Slow)
    monkeypatch.setattr(decoding, "ScratchFile", counted)
    async with Spool(tmp_path, 10_000_000, FIELD) as spool:
        await spool.write(wav(noise(10.0).tobytes()))
        call = asyncio.create_task(decode(spool, None, LIMITS, separate_channels=False))
        await asyncio.to_thread(begun.wait)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert ended.is_set()  # before the caller goes on
    assert files[0]._file.closed


async def test_work_is_over_before_its_cancelled_caller_goes_on():
    begun, stop, disposed = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        stop.wait()
        return "result"

    call = asyncio.create_task(run_to_end(work, give_up=stop.set, dispose=disposed.append))
    await asyncio.to_thread(begun.wait)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert disposed == ["result"]
