"""Scripts that try to get out, one file a family, run through the public runner.

Each is tried under both kinds of supervisor (root, and an ordinary uid) and in both kinds of sandbox (cold, warm).
"""
