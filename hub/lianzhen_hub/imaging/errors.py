"""What the hub answers to a box that uploads.

::

    ImagingError                  code                  HTTP
    ├── ImageUnannounced          image-unannounced     404   its manifest has not come (yet)
    ├── UploadDiffers             upload-differs        422   from what the manifest says
    ├── OffsetConflict            upload-offset         409   ask by HEAD and go on there
    ├── ChunkDiffers              upload-chunk          409   what came is not what was sent: again
    ├── DigestDiffers             upload-digest         409   the whole is not what it should be
    ├── PackedDiffers             packed-differs        422   what it unpacks to is not the original
    ├── ChunkCut                  upload-cut            408   the line ended within a chunk
    └── StoreAway                 store-away            503   the store of images does not answer
"""

from lianzhen_runtime.errors import LianzhenError


class ImagingError(LianzhenError):
    """Base; ``http_status`` is what ``runtime.problems`` answers with."""

    code = "imaging-error"
    http_status = 400


class ImageUnannounced(ImagingError):
    """The hub has no manifest of this image from this box: it may still be on its way."""

    code = "image-unannounced"
    http_status = 404


class UploadDiffers(ImagingError):
    """Length or hash are not those of the manifest, or no upload is like this."""

    code = "upload-differs"
    http_status = 422


class OffsetConflict(ImagingError):
    """The chunk does not begin where the hub's part ends."""

    code = "upload-offset"
    http_status = 409


class ChunkDiffers(ImagingError):
    """With this chunk the hash is another than was said. Nothing of it was kept."""

    code = "upload-chunk"
    http_status = 409


class DigestDiffers(ImagingError):
    """All bytes are there, and their hash is another one. The part was dropped: begin anew."""

    code = "upload-digest"
    http_status = 409


class PackedDiffers(ImagingError):
    """What came does not unpack to the file of the manifest. It was dropped: send the original."""

    code = "packed-differs"
    http_status = 422


class ChunkCut(ImagingError):
    """Only a part of the chunk came; it was kept."""

    code = "upload-cut"
    http_status = 408


class StoreAway(ImagingError):
    """Whole, but not yet where it is to be kept; it is put there when the box asks again."""

    code = "store-away"
    http_status = 503
