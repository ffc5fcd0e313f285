"""The host's own commands; `ringfence.cli.command_tree` names them beside those of plugins."""
