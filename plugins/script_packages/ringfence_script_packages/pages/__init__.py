"""The plugin's pages: the sandbox policy, its history, and the packages."""
