"""Each layer of the sandbox: what of it holds for a run on this host, and what is lacking."""
