"""STOW-RS by dicomweb-client, in a process of its own: until everything is there."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient

from bench.common.child import answer

PAUSE_SECONDS = 0.5


def main(configuration: Any) -> None:
    """``url``, ``ca``, ``files``, ``each``: images one by one, or the study at once."""
    session = requests.Session()
    session.trust_env = False  # else an authority of this machine's own comes first
    session.verify = configuration["ca"]
    client = DICOMwebClient(configuration["url"], session=session)
    client.set_http_retry_params(retry=False)
    images = [pydicom.dcmread(Path(path)) for path in configuration["files"]]
    posts = [[image] for image in images] if configuration["each"] else [images]
    answer(ready=True)
    limit = json.loads(sys.stdin.readline())["limit"]
    ends, tries = time.monotonic() + limit, 0
    while posts and time.monotonic() < ends:
        tries += 1
        try:
            client.store_instances(posts[0])
        except (requests.RequestException, OSError):
            time.sleep(PAUSE_SECONDS)
            continue
        posts.pop(0)
    answer(done=not posts, tries=tries)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
