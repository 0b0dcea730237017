"""SWE-bench tasks: rows of the official files, and embedded tasks made by mutation."""
