"""A stand-in for the sources of the data: a local file server, and MATLAB's cells."""

from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np


class FileServer(ThreadingHTTPServer):
    """Serves a folder on 127.0.0.1, knows byte ranges, and can cut connections."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), RangeHandler)
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.ranges: list[str | None] = []  # the Range header of each request
        self.cuts: list[int] = []  # after so many bytes of the body, for the next requests
        self.knows_ranges = True


class RangeHandler(SimpleHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        body = path.read_bytes()
        start = (
            int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.knows_ranges else 0
        )
        if start and start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        stop = start + self.server.cuts.pop(0) if self.server.cuts else None
        self.wfile.write(body[start:stop])

    def log_message(self, *_: object) -> None:
        pass


def cell_of(*arrays: np.ndarray) -> np.ndarray:
    """A MATLAB cell of arrays, for `scipy.io.savemat`."""
    cell = np.empty((1, len(arrays)), dtype=object)
    for index, array in enumerate(arrays):
        cell[0, index] = array
    return cell
