"""The stranger's plugin has tests of its own, which run where it is installed, and not among these."""

collect_ignore = ["policy_diary"]
