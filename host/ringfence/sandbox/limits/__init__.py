"""What holds the limits of a run: of each process, of its cgroups, or by counting what its processes use."""
