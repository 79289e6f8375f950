"""What is measured: a module for each subcommand, with its options, its table and its plot."""
