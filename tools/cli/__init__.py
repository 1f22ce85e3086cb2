"""The `flotilla` command: one module per subcommand. What they do lives in the packages beside this one."""
