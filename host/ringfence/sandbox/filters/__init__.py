"""What the kernel refuses to a script's own calls: seccomp for all, Landlock where there are no namespaces."""
