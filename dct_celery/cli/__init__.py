"""The `dct` command: one file per subcommand."""
