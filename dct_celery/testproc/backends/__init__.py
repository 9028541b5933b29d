"""What knows a test framework: one package per framework, found by name."""
