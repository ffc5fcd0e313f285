"""What the processes of a run use, read from `/proc`: where no cgroup is ours, this holds the limits."""
