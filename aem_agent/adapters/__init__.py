"""Our environments behind the interfaces of others, one module each: `docs/adapters.md`."""
