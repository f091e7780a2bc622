"""The command line of a task: options in, a verb done."""
