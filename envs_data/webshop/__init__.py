"""Products and goals of the web shop: types, the generated catalogue, loaders of the official files."""
