"""What all tasks share: the contract (`task`), the command line (`cli`), and what its verbs do."""
