"""SWE-bench: repositories with an issue to solve, sandboxes to work in, and SWE-bench's own harness to judge."""
