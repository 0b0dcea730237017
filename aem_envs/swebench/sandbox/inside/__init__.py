"""What runs inside a local sandbox: standard library only, started by `python -I -S` as the room's first process."""
