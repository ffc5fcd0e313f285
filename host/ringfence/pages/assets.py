"""The files that pages load: built with the distribution (`tools/build_assets.py`), and named by their hashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from fastapi import Request, Response

from ringfence.http.problems import Problem

BUILT: Final = Path(__file__).parent / "built"
_TYPES = {".svg": "image/svg+xml", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
_ENCODINGS = {"br": ".br", "gzip": ".gz"}
"""As browsers ask for them, the smaller first."""


class AssetsMissingError(RuntimeError):
    """The files were never built."""


class Assets:
    """The files, read once."""

    def __init__(self, directory: Path = BUILT) -> None:
        """Raises `AssetsMissingError`."""
        try:
            self._names: dict[str, str] = json.loads((directory / "manifest.json").read_text())
        except FileNotFoundError as error:
            raise AssetsMissingError(
                f"the pages were not built: {directory} is missing; run `make venv` in a checkout, or install a wheel"
            ) from error
        self._files = {
            path.name: path.read_bytes() for path in directory.iterdir() if path.name != "manifest.json"
        }

    def path(self, name: str) -> str:
        """Where a file is served: its path changes whenever it does."""
        return f"/assets/{self._names[name]}"

    @property
    def islands(self) -> dict[str, str]:
        """Where each script is that only pages with something for it load, by its name."""
        return {Path(name).stem: self.path(name) for name in self._names if name.startswith("island-")}

    async def serve(self, request: Request, file: str) -> Response:
        """Answer a file, in the smallest form that the browser takes; it may keep it for ever."""
        type = _TYPES.get(Path(file).suffix)
        if file not in self._names.values() or type is None:
            raise Problem(
                404, detail="there is no such file; a page that was loaded long ago may ask for it: reload"
            )
        wanted = {
            part.partition(";")[0].strip() for part in request.headers.get("accept-encoding", "").split(",")
        }
        encoding = next((one for one in _ENCODINGS if one in wanted), None)
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "Vary": "Accept-Encoding",
        }
        if encoding is not None:
            headers["Content-Encoding"] = encoding
        content = self._files[file + (_ENCODINGS[encoding] if encoding else "")]
        return Response(content, media_type=type, headers=headers)
