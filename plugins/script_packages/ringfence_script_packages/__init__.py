"""The script-packages plugin: owner of the sandbox policy."""
