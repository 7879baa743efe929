"""A disk for the segment log that refuses what it is told to."""

from pathlib import Path

from lianzhen_edge.dicom.segment_log import Disk


class BadDisk(Disk):
    """Refuses what it is told to."""

    def __init__(self) -> None:
        self.sync_error: OSError | None = None
        self.write_error: OSError | None = None
        self.free = 1 << 40
        self.syncs = 0

    def pwrite(self, descriptor: int, content: memoryview, offset: int) -> None:
        if self.write_error and offset:
            raise self.write_error
        super().pwrite(descriptor, content, offset)

    def fdatasync(self, descriptor: int) -> None:
        self.syncs += 1
        if self.sync_error:
            raise self.sync_error
        super().fdatasync(descriptor)

    def fsync(self, descriptor: int) -> None:
        self.syncs += 1
        if self.sync_error:
            raise self.sync_error
        super().fsync(descriptor)

    def free_bytes(self, folder: Path) -> int:
        return self.free
