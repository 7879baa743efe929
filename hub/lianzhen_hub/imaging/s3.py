"""Whole objects in an S3-compatible store: AWS's own client, one bucket, sealed before they go.

An object is there when the store has answered for it, and has told by a second question the length
and the hash (ETag: MD5 of what it keeps) that we sent: only then does the file here go. What the
store keeps is sealed by the hub's keys, and what was changed there does not open. Credentials come
from where AWS's tools have them: the environment, or a file that AWS_SHARED_CREDENTIALS_FILE names.
"""

import hashlib
import io
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lianzhen_runtime.files import remove_durably
from lianzhen_runtime.log import Log

from .errors import StoreAway
from .stores import Name, Store

Result = TypeVar("Result")
_ABSENT: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_log = Log("lianzhen.images")


class S3Store:
    """``url`` is ``s3://bucket/prefix``. What ``older`` has is found there, and stays there."""

    def __init__(self, url: str, endpoint: str | None, region: str, older: Store) -> None:
        found = urlsplit(url)
        self._bucket, self._prefix = found.netloc, found.path.strip("/")
        self._older = older
        self.is_up = True
        self._client: Any = botocore.session.get_session().create_client(
            "s3",
            region_name=region,
            endpoint_url=endpoint,
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                retries={"total_max_attempts": 2, "mode": "standard"},
                s3={"addressing_style": "path" if endpoint else "auto"},
                # Stores beside AWS's own know Content-MD5, and not all of them the newer ones.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def has(self, name: Name) -> bool:
        """Whether it is there, whole."""
        return self._look(name) is not None or self._older.has(name)

    def put(self, name: Name, file: Path) -> None:
        """Copy it there, ask for it, and only then let the file go."""
        with file.open("rb") as body:
            digest = hashlib.file_digest(body, _md5)
            body.seek(0)
            self._call(
                lambda: self._client.put_object(
                    **self._where(name), Body=body, ContentMD5=b64encode(digest.digest()).decode()
                )
            )
        found = self._look(name)
        if found != (file.stat().st_size, digest.hexdigest()):
            raise StoreAway("the store of images does not have what it was given; it is sent again")
        remove_durably(file)

    def open(self, name: Name) -> BinaryIO:
        """The sealed bytes; FileNotFoundError."""
        if self._older.has(name):
            return self._older.open(name)
        try:
            answer = self._call(lambda: self._client.get_object(**self._where(name)))
            return io.BytesIO(self._call(answer["Body"].read))
        except _Absent as error:
            raise FileNotFoundError(name.path()) from error

    def _look(self, name: Name) -> tuple[int, str] | None:
        """Length and MD5 of what is there."""
        try:
            found = self._call(lambda: self._client.head_object(**self._where(name)))
        except _Absent:
            return None
        return int(found["ContentLength"]), str(found["ETag"]).strip('"')

    def _where(self, name: Name) -> dict[str, str]:
        key = f"{self._prefix}/{name.path()}" if self._prefix else name.path()
        return {"Bucket": self._bucket, "Key": key}

    def _call(self, ask: Callable[[], Result]) -> Result:
        try:
            found = ask()
        except (ClientError, BotoCoreError, OSError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
            if code in _ABSENT:
                raise _Absent from error
            self.is_up = False
            _log.transition("image store", "away", bad=True, code=code or type(error).__name__)
            raise StoreAway("the store of images does not answer; images wait") from error
        self.is_up = True
        _log.transition("image store", "answers")
        return found


class _Absent(Exception):
    """No such object; or no such bucket, which a HEAD does not tell apart."""


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)  # what S3 compares by; the seal is what we trust
