"""A virtual machine on this machine's own files, for what its kernel cannot do: see `python -m tools.vm --help`."""
