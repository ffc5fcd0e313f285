"""How packages come from registries: what is offered, which versions fit together, and the files themselves."""
