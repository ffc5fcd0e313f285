"""Platforms as machines tell them, for tests of locks."""

from ringfence.scripts.packages.platform import Libc, NodePlatform, Platform, PythonPlatform

DEBIAN = Platform(
    python=PythonPlatform(
        implementation="cpython", version="3.11.2", machine="x86_64", libc=Libc.GLIBC, libc_version="2.36"
    ),
    node=NodePlatform(version="20.20.2", abi="115", machine="x64", libc=Libc.GLIBC),
)
ALPINE = Platform(
    python=PythonPlatform(
        implementation="cpython", version="3.12.9", machine="x86_64", libc=Libc.MUSL, libc_version="1.2"
    ),
    node=NodePlatform(version="22.15.0", abi="127", machine="x64", libc=Libc.MUSL),
)
RASPBERRY = Platform(
    python=PythonPlatform(
        implementation="cpython", version="3.13.3", machine="aarch64", libc=Libc.GLIBC, libc_version="2.41"
    )
)
