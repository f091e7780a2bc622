"""Speed and accuracy of the project beside what a user would pick instead."""
