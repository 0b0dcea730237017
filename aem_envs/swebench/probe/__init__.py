"""Folder that is shown in sandboxes; it holds one plugin of pytest."""
