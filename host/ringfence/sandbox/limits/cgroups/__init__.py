"""Cgroups of runs, which the kernel itself limits: where they may be, and putting a run into one."""
