"""Bodies of requests, read no further than they may be long."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ringfence.http.problems import Problem


async def read_body(body: AsyncIterator[bytes], *, most: int, declared: str | None = None) -> bytes:
    """The whole body, of at most `most` bytes.

    What is `declared` to be longer (Content-Length) is not read at all, and whatever is longer no further. Raises
    `Problem` (413).
    """
    # Python refuses to read a number of thousands of digits; the first twenty say enough.
    if declared is not None and declared.isascii() and declared.isdigit() and int(declared[:20]) > most:
        raise _too_large(most)
    whole = bytearray()
    async for piece in body:
        whole += piece
        if len(whole) > most:
            raise _too_large(most)
    return bytes(whole)


def _too_large(most: int) -> Problem:
    return Problem(413, detail=f"the body may have {most // 1024} KiB at most")
