"""AEM and our environments inside trainers of others; `docs/adapters.md` is about those without a module here."""
